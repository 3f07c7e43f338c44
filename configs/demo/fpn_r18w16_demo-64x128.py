# The demo's student: half the teacher's width, an eighth of its training.
_base_ = './fpn_r18w32_demo-64x128.py'
# Nine tenths of the pixels are background: without weights so short a run learns little else. Of Cityscapes' 19 classes the
# scenes use 11: digits 0 to 9, and 10 for the background.
class_weight = [1.0] * 10 + [0.5] + [1.0] * 8
model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=[16, 32, 64], out_channels=32),
    decode_head=dict(in_channels=[32, 32, 32], channels=32, loss_decode=dict(class_weight=class_weight)))
optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=30, end=500, by_epoch=False)
]
train_cfg = dict(max_iters=500, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
