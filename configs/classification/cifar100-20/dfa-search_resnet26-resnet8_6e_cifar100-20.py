# ResNet26 -> ResNet8: the search, 2 epochs of seven tenths of the training set for each group.
_base_ = './dfa_resnet26-resnet8_8e_cifar100-20.py'
model = dict(
    distillers=dict(dfa=dict(mode='search', aggregation=None, loss_scale=None, calibration_iters=None, gamma_st='auto')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.SplitDataset',
        dataset={{_base_.train_dataloader.dataset}},
        part='train',
        ratio=0.7))
train_cfg = dict(max_epochs=6)
optim_wrapper = dict(optimizer=dict(lr=0.025), clip_grad=dict(max_norm=5))
param_scheduler = None
val_cfg = val_dataloader = val_evaluator = None  # what is searched with is no student to be used
default_hooks = dict(checkpoint=dict(interval=2))
custom_hooks = [dict(type='mmkd.AggregationSearchHook', optimizer=dict(type='Adam', lr=2e-2, betas=(0.5, 0.999)))]
