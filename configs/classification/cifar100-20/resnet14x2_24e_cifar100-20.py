# The teacher: deeper and twice as wide, trained three times as long.
_base_ = './resnet8_8e_cifar100-20.py'
model = dict(backbone=dict(depth=14, widen_factor=2), head=dict(in_channels=128))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', T_max=24, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=24, val_interval=8)
