# The student: a quarter of the backbone's width, half of the pyramid's.
_base_ = './retinanet_r18_fpn_600_bccd.py'
model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64))
