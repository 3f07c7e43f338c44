# The student: CIFAR ResNet8, for 20 classes of CIFAR-100.
_base_ = [
    '../../_base_/datasets/cifar100-20_bs64.py', '../../_base_/schedules/cifar_8e.py',
    'mmpretrain::_base_/default_runtime.py'
]
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmkd.CIFARResNet', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=20, in_channels=64, loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
default_hooks = dict(
    checkpoint=dict(interval=8),
    logger=dict(interval=50),
    format=dict(type='mmkd.ChannelsLastHook'))  # here, not in custom_hooks, which children replace
randomness = dict(seed=0)
