# ResNet32x4 (7.43 M parameters) on CIFAR-100 (not run; builds and trains a step in the tests).
_base_ = './wrn-16-2_240e_cifar100.py'
model = dict(backbone=dict(_delete_=True, type='mmkd.CIFARResNet', depth=32, widen_factor=4), head=dict(in_channels=256))
