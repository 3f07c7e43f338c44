# The teacher: a wide residual network of depth 28 and width 4 (not run; builds and trains a step in the tests).
_base_ = [
    '../../_base_/datasets/cifar100_bs128.py', '../../_base_/schedules/cifar_200e.py',
    'mmpretrain::_base_/default_runtime.py'
]
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmkd.WideResNet', depth=28, widen_factor=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=100, in_channels=256, loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
default_hooks = dict(checkpoint=dict(interval=200))
randomness = dict(seed=0)
