# The search: 20 epochs on 80 % of the training set, validated on the rest.
_base_ = './distpro_resnet34-resnet18_8xb32_in1k.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = dict(milestones=[6, 12, 18])
train_cfg = dict(max_epochs=20)
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
