# The student: the same network at a quarter of the width.
_base_ = './pspnet_r18-d8_1k_camvid-128x176.py'
model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    decode_head=dict(in_channels=128, channels=32),
    auxiliary_head=dict(in_channels=64, channels=16))
