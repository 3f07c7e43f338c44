# CamVid, test split: distillation in every iteration, in every second, and on half of each batch; see docs/every-and-fraction.md.
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
    dict(name='KD', config=folder + 'kd_' + pair, overrides=taught),
]
del folder, pair, taught
