# ResNet26 -> ResNet8 with the aggregations that the search has found: four blocks of the teacher for each stage.
_base_ = './dfa_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(
    teacher=dict(
        config='mmkd_plugin::classification/cifar100-20/resnet26_24e_cifar100-20.py',
        checkpoint='work_dirs/resnet26_24e_cifar100-20/epoch_24.pth'),
    distillers=dict(dfa=dict(aggregation='work_dirs/dfa-search_resnet26-resnet8_6e_cifar100-20/aggregation.json')))
