# A student: depth 16, width 2 (not run; builds and trains a step in the tests).
_base_ = './wrn-28-4_140e_cinic10.py'
model = dict(backbone=dict(depth=16, widen_factor=2), head=dict(in_channels=128))
