# Blood cells, test split; data/bccd as docs/configs.md says.
folder = 'configs/detection/bccd/'
pair = 'retinanet_r18-r18w16_fpn_600_bccd.py'
taught = {'model.teacher.checkpoint': '{teacher}'}
pkd = 'model.distillers.pkd.'
metric = 'coco/bbox_mAP'
scale = 100
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'retinanet_r18_fpn_600_bccd.py', seeds=[0]),
    dict(name='student alone', config=folder + 'retinanet_r18w16_fpn_600_bccd.py'),
    dict(name='MGD-AMP', config=folder + 'mgd-amp_' + pair, overrides=taught),
    dict(name='PKD', config=folder + 'pkd_' + pair, overrides=taught),
    dict(name='auto', config=folder + 'pkd_' + pair,
         overrides={**taught, 'model.distillers._delete_': True, 'model.distillers.auto.type': 'mmkd.AutoDistiller'}),
    dict(name='L2', config=folder + 'pkd_' + pair, overrides={**taught, pkd + 'loss': 'l2'}),
]
del folder, pair, taught, pkd
