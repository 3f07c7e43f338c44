# ShuffleNetV2 x2.0 -> x0.5: the search. Validation data is CINIC-10's own `valid` folder, which training does not use.
_base_ = './dfa_shufflenet-v2-2.0x-0.5x_140e_cinic10.py'
model = dict(distillers=dict(dfa=dict(mode='search', aggregation=None)))
train_cfg = dict(max_epochs=40)
optim_wrapper = dict(clip_grad=dict(max_norm=5))
param_scheduler = None  # the weights are shared by all groups: a schedule would starve the last
val_cfg = val_dataloader = val_evaluator = None  # what is searched with is no student to be used
validation = dict(
    batch_size=96,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='data/cinic10/valid', pipeline={{_base_.train_pipeline}}))
default_hooks = dict(checkpoint=dict(interval=5))
custom_hooks = [
    dict(
        type='mmkd.AggregationSearchHook',
        dataloader=validation,
        optimizer=dict(type='Adam', lr=5e-4, betas=(0.5, 0.999)))
]
