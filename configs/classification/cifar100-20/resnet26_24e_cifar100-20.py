# A teacher with four blocks in each stage, as wide as the student, trained three times as long.
_base_ = './resnet14x2_24e_cifar100-20.py'
model = dict(backbone=dict(depth=26, widen_factor=1), head=dict(in_channels=64))
