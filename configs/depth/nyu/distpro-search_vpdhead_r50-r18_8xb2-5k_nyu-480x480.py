# The search: 5k iterations on 80 % of the training set, validated on the rest.
_base_ = './distpro_vpdhead_r50-r18_8xb2-25k_nyu-480x480.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = [
    dict(type='LinearLR', start_factor=3e-2, begin=0, end=500, by_epoch=False),
    dict(type='PolyLR', eta_min=3e-5, power=0.9, begin=500, end=5000, by_epoch=False)
]
train_cfg = dict(max_iters=5000)
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
