# The same with random drop: a random channel of the group at every position.
_base_ = './mgd-amp_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(distillers=dict(mgd=dict(reducer='random_drop')))
