# CamVid, test split: distillation in every iteration, in every second, and on half of each batch.
# See docs/every-and-fraction.md.
folder = 'configs/segmentation/camvid/'
pair = 'pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
taught = {'model.teacher.checkpoint': '{teacher}'}
metric = 'mIoU'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'pspnet_r18-d8_1k_camvid-128x176.py', seeds=[0]),
    dict(name='student alone', config=folder + 'pspnet_r18w16-d8_1k_camvid-128x176.py'),
    dict(name='MGD-AMP', config=folder + 'mgd-amp_' + pair, overrides=taught),
    dict(name='MGD-AMP, every=2', config=folder + 'mgd-amp_' + pair, overrides={**taught, 'model.distillers.mgd.every': 2}),
    dict(name='MGD-AMP, fraction=0.5', config=folder + 'mgd-amp_' + pair,
         overrides={**taught, 'model.distillers.mgd.fraction': 0.5}),
    dict(name='KD', config=folder + 'kd_' + pair, overrides=taught),
    dict(name='KD, every=2', config=folder + 'kd_' + pair, overrides={**taught, 'model.distillers.kd.every': 2}),
    dict(name='KD, fraction=0.5', config=folder + 'kd_' + pair, overrides={**taught, 'model.distillers.kd.fraction': 0.5}),
]
del folder, pair, taught
