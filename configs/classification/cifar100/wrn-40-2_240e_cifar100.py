# WRN-40-2 (2.26 M parameters) on CIFAR-100 (not run; builds and trains a step in the tests).
_base_ = './wrn-16-2_240e_cifar100.py'
model = dict(backbone=dict(depth=40), head=dict(in_channels=128))
