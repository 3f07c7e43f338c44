# The teacher: RetinaNet R18 from scratch, with a lighter head than usual.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py', '../../_base_/datasets/coco256.py', 'mmdet::_base_/default_runtime.py',
    '../../_base_/schedules/coco256_300.py'
]
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    bbox_head=dict(in_channels=128, stacked_convs=2, feat_channels=128))
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=300), logger=dict(interval=50, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
