# Conventional feature distillation: the last block of each stage in place of a searched aggregation.
_base_ = './dfa_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(distillers=dict(dfa=dict(aggregation='last')))
