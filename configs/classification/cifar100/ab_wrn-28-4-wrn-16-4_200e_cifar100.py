# WRN-28-4 -> WRN-16-4, AB (not run; builds and trains a step in the tests). Heo et al., 2019, with RepDistiller's
# weights, for the first 30 epochs (of 391 iterations). There the classifier learns only after them, here from the first
# iteration on.
_base_ = './wrn-16-4_200e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-28-4_200e_cifar100.py'),
    distillers=dict(
        ab1=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer1@preact'], loss='ab', adapter='conv1x1_bn',
            loss_weight=0.25, end=11730),
        ab2=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer2@preact'], loss='ab', adapter='conv1x1_bn',
            loss_weight=0.5, end=11730),
        ab3=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer3@preact'], loss='ab', adapter='conv1x1_bn',
            loss_weight=1.0, end=11730)),
    image_shape=(3, 32, 32))
