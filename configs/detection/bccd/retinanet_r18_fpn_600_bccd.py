# The teacher: RetinaNet R18 from scratch, with lighter heads than usual.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py', '../../_base_/datasets/bccd.py', 'mmdet::_base_/default_runtime.py',
    '../../_base_/schedules/bccd_600.py'
]
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    bbox_head=dict(num_classes=3, in_channels=128, feat_channels=128, stacked_convs=2))
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=600), logger=dict(interval=50, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
