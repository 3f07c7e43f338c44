# CUB-200: ShuffleNetV2 x1.0 from ImageNet weights (not run; builds and trains a step in the tests). Data and schedule as for
# MobileNetV2.
_base_ = [
    'mmpretrain::_base_/models/shufflenet_v2_1x.py', 'mmpretrain::_base_/datasets/cub_bs8_448.py',
    '../../_base_/schedules/cub_bs64_120e.py', 'mmpretrain::_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/shufflenet_v2/'
            'shufflenet_v2_batch1024_imagenet_20200812-5bf4721e.pth')),
    head=dict(num_classes=200))
