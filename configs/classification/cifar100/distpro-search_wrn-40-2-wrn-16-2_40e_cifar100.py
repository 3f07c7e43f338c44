# The search: 40 epochs on 80 % of the training set, validated on the rest; 10 pathways.
_base_ = './distpro_wrn-40-2-wrn-16-2_240e_cifar100.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
param_scheduler = dict(milestones=[10, 20, 30])
train_cfg = dict(max_epochs=40)
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
