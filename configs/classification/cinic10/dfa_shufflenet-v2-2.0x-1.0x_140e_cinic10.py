# ShuffleNetV2 x2.0 -> x1.0, DFA (not run; builds, trains and searches a step in the tests).
_base_ = './shufflenet-v2-1.0x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            distance='sum',
            loss_weight=1e-3)),  # the scale of the authors' framework: 15.6 times that of a mean
    image_shape=(3, 32, 32))
# The search validates on CINIC-10's own `valid` folder, which training does not use.
search = dict(
    split=None,
    hook=dict(
        optimizer=dict(type='Adam', lr=5e-4, betas=(0.5, 0.999)),
        dataloader=dict(
            batch_size=96,
            num_workers=2,
            persistent_workers=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='CustomDataset', data_root='data/cinic10/valid', pipeline={{_base_.train_pipeline}}))),
    config=dict(
        train_cfg=dict(max_epochs=40),
        optim_wrapper=dict(clip_grad=dict(max_norm=5)),
        param_scheduler=None))  # the weights are shared by all groups: a schedule would starve the last
