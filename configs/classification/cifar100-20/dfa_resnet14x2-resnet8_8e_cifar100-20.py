# ResNet14x2 -> ResNet8 with the aggregations that the search has found.
_base_ = './resnet8_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py',
        checkpoint='work_dirs/resnet14x2_24e_cifar100-20/epoch_24.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            aggregation='work_dirs/dfa-search_resnet14x2-resnet8_6e_cifar100-20/aggregation.json',
            loss_scale='auto',
            calibration_iters=50)),
    image_shape=(3, 32, 32))
