# The demo's student: a quarter of the teacher's width, the same data and schedule.
_base_ = './pspnet_r18w32-d8_demo-64x128.py'
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=64, channels=16),
    auxiliary_head=dict(in_channels=32, channels=8))
