# The demo's search, 100 iterations for each group; it writes aggregation.json.
_base_ = './dfa_pspnet_r18w32-r18w8-d8_demo-64x128.py'
model = dict(distillers=dict(dfa=dict(mode='search', aggregation=None, distance=None, gamma_st='auto')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.SplitDataset',
        dataset={{_base_.train_dataloader.dataset}},
        part='train',
        ratio=0.7))
train_cfg = dict(max_iters=300)
param_scheduler = None
val_cfg = val_dataloader = val_evaluator = None  # what is searched with is no student to be used
default_hooks = dict(checkpoint=dict(interval=100))
custom_hooks = [dict(type='mmkd.AggregationSearchHook', optimizer=dict(type='Adam', lr=2e-2, betas=(0.5, 0.999)))]
