# WRN-28-4 -> WRN-28-2, DFA (not run; builds, trains and searches a step in the tests).
_base_ = './wrn-28-2_200e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-28-4_200e_cifar100.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            distance='sum',
            loss_weight=1e-3)),  # the scale of the authors' framework: 16.4 times that of a mean
    image_shape=(3, 32, 32))
search = dict(
    split=0.7,
    hook=dict(optimizer=dict(type='Adam', lr=2e-3, betas=(0.5, 0.999))),
    config=dict(
        train_cfg=dict(max_epochs=40),
        optim_wrapper=dict(optimizer=dict(lr=0.025), clip_grad=dict(max_norm=5)),
        param_scheduler=None))  # the weights are shared by all groups: a schedule would starve the last
