# CamVid: the search, 500 iterations on 80 % of the training set, validated on the rest.
_base_ = './distpro_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=50, end=500, by_epoch=False)
]
train_cfg = dict(max_iters=500)
val_cfg = val_dataloader = val_evaluator = None  # the student of the search is not to be used
default_hooks = dict(checkpoint=dict(interval=250))
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
