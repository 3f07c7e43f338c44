# The blocks of a stage with equal weights in place of searched ones.
_base_ = './dfa_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(distillers=dict(dfa=dict(aggregation='average')))
