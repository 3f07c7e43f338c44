# The search: 8k iterations on 80 % of the training set, validated on the rest.
_base_ = './distpro-ifvd_pspnet_r101-r18-d8_4xb2-40k_cityscapes-512x512.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=8000, by_epoch=False)]
train_cfg = dict(max_iters=8000)
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
