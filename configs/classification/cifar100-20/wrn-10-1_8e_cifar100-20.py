# Another student, for a transfer: a wide ResNet-10-1 (not run alone; builds and trains a step in the tests).
_base_ = './resnet8_8e_cifar100-20.py'
model = dict(backbone=dict(_delete_=True, type='mmkd.WideResNet', depth=10))
