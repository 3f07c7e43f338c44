# WRN-16-2 (0.70 M parameters) on CIFAR-100 (not run; builds and trains a step in the tests).
_base_ = [
    '../../_base_/datasets/cifar100_bs128.py', '../../_base_/schedules/cifar_240e.py',
    'mmpretrain::_base_/default_runtime.py'
]
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmkd.WideResNet', depth=16, widen_factor=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=128, loss=dict(type='CrossEntropyLoss')))
