# CamVid, test split, with a teacher that has seen ImageNet: tools/model_converters/mobilenet_v2.py first. The pool finds the
# taps of this pair itself; one loss in it is that loss, as strong as the task's own. See docs/results/segmentation.md.
folder = 'configs/segmentation/camvid/'
teacher = 'pspnet_mobilenet-v2-d8_2k_camvid-128x176.py'
student = 'pspnet_r18w16-d8_1k_camvid-128x176.py'
pair = 'auto_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
taught = {'model.teacher.config': f'mmkd_plugin::segmentation/camvid/{teacher}', 'model.teacher.checkpoint': '{teacher}'}
pool = 'model.distillers.auto.pool'
metric = 'mIoU'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + teacher, seeds=[0]),
    dict(name='student alone', config=folder + student),
    dict(name='KD', config=folder + pair, overrides={**taught, pool: '[kd]'}),
    dict(name='CWD', config=folder + pair, overrides={**taught, pool: '[cwd]'}),
    dict(name='MGD-AMP', config=folder + pair, overrides={**taught, pool: '[mgd]'}),
    dict(name='MGD-AMP and CWD', config=folder + pair, overrides={**taught, pool: '[mgd,cwd]'}),
    dict(name='auto', config=folder + pair, overrides=taught),
]
del folder, teacher, student, pair, taught, pool
