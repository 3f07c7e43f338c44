# WRN-28-4 -> WRN-16-4 with the aggregations that the search has found.
_base_ = './wrn16-4_200e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::classification/cifar100/wrn28-4_200e_cifar100.py',
        checkpoint='work_dirs/wrn28-4_200e_cifar100/epoch_200.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            aggregation='work_dirs/dfa-search_wrn28-4-wrn16-4_40e_cifar100/aggregation.json')),
    image_shape=(3, 32, 32))
