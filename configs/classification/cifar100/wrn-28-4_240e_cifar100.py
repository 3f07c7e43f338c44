# WRN-28-4 (5.87 M parameters) on CIFAR-100, 240 epochs (not run; builds and trains a step in the tests).
_base_ = './wrn-16-2_240e_cifar100.py'
model = dict(backbone=dict(depth=28, widen_factor=4), head=dict(in_channels=256))
