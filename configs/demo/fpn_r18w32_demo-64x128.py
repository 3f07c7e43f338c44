# The demo's teacher: Cityscapes' Semantic FPN with three stages of a ResNet-18 at half the width, on embedded scenes in the
# folder layout of Cityscapes. Its weights lie beside this file: `python tools/run_demo.py --train-teacher`, on 6000 scenes.
_base_ = [
    'mmseg::_base_/models/fpn_r50.py', '../_base_/datasets/demo.py', 'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_80k.py'
]
model = dict(
    data_preprocessor=dict(size=(64, 128)),
    pretrained=None,
    backbone=dict(
        depth=18, num_stages=3, out_indices=(0, 1, 2), strides=(1, 2, 2), dilations=(1, 1, 1),
        stem_channels=32, base_channels=32, norm_cfg=dict(type='BN')),
    neck=dict(in_channels=[32, 64, 128], out_channels=64, num_outs=3),
    decode_head=dict(
        in_channels=[64, 64, 64], in_index=[0, 1, 2], feature_strides=[4, 8, 16], channels=64, dropout_ratio=0,
        norm_cfg=dict(type='BN')))
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=30, end=4000, by_epoch=False)
]
train_cfg = dict(max_iters=4000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
randomness = dict(seed=0)
