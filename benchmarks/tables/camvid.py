# CamVid, test split; `python tools/dataset_converters/camvid.py SOURCE` first.
folder = 'configs/segmentation/camvid/'
taught = {'model.teacher.checkpoint': '{teacher}'}
metric = 'mIoU'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'pspnet_r18-d8_1k_camvid-128x176.py', seeds=[0]),
    dict(name='student alone', config=folder + 'pspnet_r18w16-d8_1k_camvid-128x176.py'),
    dict(name='MGD-AMP', config=folder + 'mgd-amp_pspnet_r18-r18w16-d8_1k_camvid-128x176.py', overrides=taught),
    dict(name='KD', config=folder + 'kd_pspnet_r18-r18w16-d8_1k_camvid-128x176.py', overrides=taught),
    dict(name='MGD-AMP + KD', config=folder + 'mgd-amp-kd_pspnet_r18-r18w16-d8_1k_camvid-128x176.py', overrides=taught),
]
del folder, taught
