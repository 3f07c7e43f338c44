# WRN-28-4 -> WRN-16-4, SP (not run; builds and trains a step in the tests). Tung and Mori, 2019: the weight is theirs,
# the tap RepDistiller's (the DFA authors' framework adds up all stages).
_base_ = './wrn-16-4_200e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-28-4_200e_cifar100.py'),
    distillers=dict(
        sp=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'], loss='sp', loss_weight=3000.0)),
    image_shape=(3, 32, 32))
