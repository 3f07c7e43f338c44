# ImageNet: ResNet-34 -> ResNet-18, DFA (not run; builds, trains and searches a step in the tests).
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet34_8xb32_in1k.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            distance='sum',
            loss_weight=1e-4)))  # Overhaul's scale on ImageNet (the authors have none): 2.5 times that of a mean
# The search: 2 epochs for each group.
search = dict(
    split=0.7,
    hook=dict(optimizer=dict(type='Adam', lr=5e-4, betas=(0.5, 0.999))),
    config=dict(
        train_cfg=dict(max_epochs=8),
        optim_wrapper=dict(optimizer=dict(lr=0.025), clip_grad=dict(max_norm=5)),
        param_scheduler=None))  # the weights are shared by all groups: a schedule would starve the last
