# The student: the same with a ResNet-18 (not run; builds and trains a step in the tests).
_base_ = './vpdhead_r50_8xb2-25k_nyu-480x480.py'
model = dict(
    backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
    decode_head=dict(in_channels=[64, 128, 256, 512]))
