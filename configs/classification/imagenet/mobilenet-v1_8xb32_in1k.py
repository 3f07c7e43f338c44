# ImageNet: MobileNetV1 alone, in MGD's recipe (not run; builds and trains a step in the tests). Batch 256, 120 epochs after
# 10 of warm-up; the authors train the student alone without Nesterov, with a drop every 30 epochs.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py', 'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py'
]
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmkd.MobileNetV1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1024, loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
optim_wrapper = dict(optimizer=dict(nesterov=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=10),
    dict(type='MultiStepLR', by_epoch=True, milestones=[40, 70, 90], gamma=0.1)
]
train_cfg = dict(max_epochs=130)
