# A teacher: ShuffleNetV2 x2.0 with the stem for small images (not run; builds and trains a step in the tests).
_base_ = [
    '../../_base_/datasets/cinic10_bs96.py', '../../_base_/schedules/cinic10_140e.py',
    'mmpretrain::_base_/default_runtime.py'
]
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmkd.CIFARShuffleNetV2', widen_factor=2.0),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=10, in_channels=2048, loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
default_hooks = dict(checkpoint=dict(interval=140))
randomness = dict(seed=0)
