# The search: 8 epochs on 80 % of the training set, validated on the rest.
_base_ = './distpro_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(distillers=dict(distpro=dict(mode='search')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='mmkd.SplitDataset', part='train', dataset={{_base_.train_dataloader.dataset}}))
default_hooks = dict(checkpoint=dict(interval=2))
custom_hooks = [dict(type='mmkd.ProcessSearchHook')]
