# The search: 200 iterations on 80 % of the scenes, validated on the rest.
_base_ = './distpro_pspnet_r18w32-r18w8-d8_demo-64x128.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=30, end=200, by_epoch=False)
]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=50))
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
