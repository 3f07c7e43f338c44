# A student: depth 16, width 4.
_base_ = './wrn28-4_200e_cifar100.py'
model = dict(backbone=dict(depth=16, widen_factor=4))
