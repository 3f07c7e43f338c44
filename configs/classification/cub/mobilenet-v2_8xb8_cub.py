# CUB-200: MobileNetV2 from ImageNet weights (not run; builds and trains a step in the tests). Images as mmpretrain's
# ResNet-50 for CUB has them: 448x448 crops of 600x600.
_base_ = [
    'mmpretrain::_base_/models/mobilenet_v2_1x.py', 'mmpretrain::_base_/datasets/cub_bs8_448.py',
    '../../_base_/schedules/cub_bs64_120e.py', 'mmpretrain::_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/'
            'mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth')),
    head=dict(num_classes=200))
