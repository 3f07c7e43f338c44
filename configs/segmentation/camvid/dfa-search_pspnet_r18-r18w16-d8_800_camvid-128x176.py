# CamVid: the search, 200 iterations for each group.
_base_ = './dfa_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
model = dict(distillers=dict(dfa=dict(mode='search', aggregation=None, distance=None, gamma_st='auto')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.SplitDataset',
        dataset={{_base_.train_dataloader.dataset}},
        part='train',
        ratio=0.7))
train_cfg = dict(max_iters=800)
param_scheduler = None
val_cfg = val_dataloader = val_evaluator = None  # what is searched with is no student to be used
default_hooks = dict(checkpoint=dict(interval=400))
custom_hooks = [dict(type='mmkd.AggregationSearchHook', optimizer=dict(type='Adam', lr=2e-2, betas=(0.5, 0.999)))]
