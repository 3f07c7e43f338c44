# A teacher: a wide residual network of depth 28 and width 4 (not run; builds and trains a step in the tests).
_base_ = './shufflenet-v2-2.0x_140e_cinic10.py'
model = dict(backbone=dict(_delete_=True, type='mmkd.WideResNet', depth=28, widen_factor=4), head=dict(in_channels=256))
