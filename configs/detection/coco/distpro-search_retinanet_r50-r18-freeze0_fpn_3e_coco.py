# The search: 3 epochs on 80 % of the training set, validated on the rest.
_base_ = './distpro_retinanet_r50-r18-freeze0_fpn_1x_coco.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, milestones=[2], gamma=0.1)
]
train_cfg = dict(max_epochs=3)
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
