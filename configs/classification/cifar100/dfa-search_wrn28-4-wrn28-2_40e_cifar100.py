# WRN-28-4 -> WRN-28-2: the search, 40 epochs of seven tenths of the training set; it writes aggregation.json.
_base_ = './dfa_wrn28-4-wrn28-2_200e_cifar100.py'
model = dict(distillers=dict(dfa=dict(mode='search', aggregation=None)))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.SplitDataset',
        dataset={{_base_.train_dataloader.dataset}},
        part='train',
        ratio=0.7))
train_cfg = dict(max_epochs=40)
optim_wrapper = dict(optimizer=dict(lr=0.025), clip_grad=dict(max_norm=5))
param_scheduler = None  # the weights are shared by all groups: a schedule would starve the last
val_cfg = val_dataloader = val_evaluator = None  # what is searched with is no student to be used
default_hooks = dict(checkpoint=dict(interval=5))
custom_hooks = [dict(type='mmkd.AggregationSearchHook', optimizer=dict(type='Adam', lr=2e-3, betas=(0.5, 0.999)))]
