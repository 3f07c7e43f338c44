# The same with sparse matching: one teacher channel for each student channel.
_base_ = './mgd-amp_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(distillers=dict(mgd=dict(reducer='sparse')))
