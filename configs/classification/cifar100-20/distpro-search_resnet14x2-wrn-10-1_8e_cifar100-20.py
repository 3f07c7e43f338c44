# The search on another pair, for a transfer: the student is a wide ResNet. Its process has the same taps.
_base_ = './distpro-search_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(student=dict(backbone=dict(_delete_=True, type='mmkd.WideResNet', depth=10)))
