# A student: ShuffleNetV2 x0.5 (not run; builds and trains a step in the tests).
_base_ = './shufflenet-v2-2.0x_140e_cinic10.py'
model = dict(backbone=dict(widen_factor=0.5), head=dict(in_channels=1024))
