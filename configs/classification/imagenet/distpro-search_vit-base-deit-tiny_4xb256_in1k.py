# The search: 20 epochs on 80 % of the training set, validated on the rest.
_base_ = './distpro_vit-base-deit-tiny_4xb256_in1k.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=20, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=20)
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
