# CamVid, test split, with a teacher that has seen ImageNet: tools/model_converters/mobilenet_v2.py first.
folder = 'configs/segmentation/camvid/'
metric = 'mIoU'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'pspnet_mobilenet-v2-d8_2k_camvid-128x176.py', seeds=[0]),
    dict(name='student alone', config=folder + 'pspnet_r18w16-d8_1k_camvid-128x176.py'),
]
del folder
