# The demo's teacher: Cityscapes' PSPNet R18-d8 at half the width, on embedded scenes in the folder layout of Cityscapes.
_base_ = [
    'mmseg::_base_/models/pspnet_r50-d8.py', '../_base_/datasets/demo.py', 'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_80k.py'
]
# Nine tenths of the pixels are background: without weights a short run learns nothing else. Of Cityscapes' 19 classes the
# scenes use 11: digits 0 to 9, and 10 for the background.
class_weight = [1.0] * 10 + [0.15] + [1.0] * 8
model = dict(
    data_preprocessor=dict(size=(64, 128)),
    pretrained=None,
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    decode_head=dict(in_channels=256, channels=64, dropout_ratio=0, loss_decode=dict(class_weight=class_weight)),
    auxiliary_head=dict(in_channels=128, channels=32, dropout_ratio=0, loss_decode=dict(class_weight=class_weight)))
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=30, end=600, by_epoch=False)
]
train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=600))
randomness = dict(seed=0)
