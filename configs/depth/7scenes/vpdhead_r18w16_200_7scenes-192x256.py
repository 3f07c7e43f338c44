# The student: a quarter of the backbone's width.
_base_ = './vpdhead_r18_200_7scenes-192x256.py'
model = dict(backbone=dict(stem_channels=16, base_channels=16), decode_head=dict(in_channels=[16, 32, 64, 128]))
