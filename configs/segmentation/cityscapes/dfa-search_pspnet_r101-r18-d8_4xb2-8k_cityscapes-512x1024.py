# Cityscapes: PSPNet R101-d8 -> R18-d8: the search, 2000 iterations for each group.
_base_ = './dfa_pspnet_r101-r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(distillers=dict(dfa=dict(mode='search', aggregation=None, distance=None, gamma_st='auto')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.SplitDataset',
        dataset={{_base_.train_dataloader.dataset}},
        part='train',
        ratio=0.7))
train_cfg = dict(max_iters=8000)
optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=5))
param_scheduler = None  # the weights are shared by all groups: a schedule would starve the last
val_cfg = val_dataloader = val_evaluator = None  # what is searched with is no student to be used
default_hooks = dict(checkpoint=dict(interval=1000))
custom_hooks = [dict(type='mmkd.AggregationSearchHook')]
