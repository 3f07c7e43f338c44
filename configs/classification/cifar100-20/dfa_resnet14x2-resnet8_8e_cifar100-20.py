# ResNet14x2 -> ResNet8 with the aggregations that the search has found.
_base_ = './resnet8_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py', runtime='auto'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            loss_scale='auto')),
    image_shape=(3, 32, 32))
# The search: 2 epochs for each group.
search = dict(
    split=0.7,
    hook=dict(optimizer=dict(type='Adam', lr=1e-2, betas=(0.5, 0.999))),
    config=dict(
        train_cfg=dict(max_epochs=6),
        optim_wrapper=dict(optimizer=dict(lr=0.025), clip_grad=dict(max_norm=5)),
        param_scheduler=None))  # the weights are shared by all groups: a schedule would starve the last
