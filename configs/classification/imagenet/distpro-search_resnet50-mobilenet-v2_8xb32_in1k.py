# The search: 20 epochs on 80 % of the training set, validated on the rest.
_base_ = './distpro_resnet50-mobilenet-v2_8xb32_in1k.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=20, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=20)
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
