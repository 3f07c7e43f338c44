# CamVid, test split, from a teacher that has seen ImageNet and comes with its config: each loss of a pool, the pool, and
# what a search makes of it. In the default pool one loss is that loss, as strong as the task's own.
# See docs/results/segmentation.md and docs/pool.md.
folder = 'configs/segmentation/camvid/'
teacher = 'pspnet_mobilenet-v2-d8_2k_camvid-128x176'
student = 'pspnet_r18w16-d8_1k_camvid-128x176.py'
default = folder + 'auto_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
explicit = folder + 'pool_pspnet_mobilenet-v2-r18w16-d8_1k_camvid-128x176.py'
auto, pool = 'model.distillers.auto.', 'model.distillers.pool.'
taught = {'model.teacher.checkpoint': '{teacher}'}
found = {**taught, pool + 'process': '{search:process.json}'}
of_default = {**taught, 'model.teacher.config': f'mmkd_plugin::segmentation/camvid/{teacher}.py'}
metric = 'mIoU'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=f'{folder}{teacher}.py', checkpoint=f'{folder}{teacher}.pth', seeds=[0]),
    dict(name='student alone', config=folder + student),
    dict(name='MGD-AMP', config=default, overrides={**of_default, auto + 'pool': '[mgd]'}),
    dict(name='auto', config=default, overrides=of_default),
    dict(name='CWD', config=default, overrides={**of_default, auto + 'pool': '[cwd]'}),
    dict(name='KD', config=default, overrides={**of_default, auto + 'pool': '[kd]'}),
    dict(name='pathways', label="DistPro's pathways, equal weights", config=default,
         overrides={**of_default, auto + 'pool': '[hcl]'}),
    dict(name='MGD-AMP and CWD', label='MGD-AMP + CWD, by hand', config=default,
         overrides={**of_default, auto + 'pool': '[mgd,cwd]'}),
    dict(name='auto, online', config=default, overrides={**of_default, auto + 'online': True}),
    dict(name='search', config=explicit, stage='search', overrides=taught, seeds=[0]),
    dict(name='process', label='a pool of CWD, KD, MGD, L2 and pathways: the process', config=explicit, overrides=found),
    dict(name='last weights', label='its last weights', config=explicit, overrides={**found, pool + 'mode': 'final'}),
    dict(name='equal weights', label='its members, equal weights', config=explicit,
         overrides={**taught, pool + 'mode': 'equal'}),
]
del folder, teacher, student, default, explicit, auto, pool, taught, found, of_default
