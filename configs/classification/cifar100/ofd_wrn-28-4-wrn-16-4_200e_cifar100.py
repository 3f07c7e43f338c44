# WRN-28-4 -> WRN-16-4, OFD (not run; builds and trains a step in the tests). Overhaul ("Margin"), Heo et al., 2019, as
# they train these pairs: before the activation, each stage half the weight of the next.
_base_ = './wrn-16-4_200e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-28-4_200e_cifar100.py'),
    distillers=dict(
        ofd0=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer1@preact'], loss='ofd',
            adapter='conv1x1_bn', loss_weight=0.25),
        ofd1=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer2@preact'], loss='ofd',
            adapter='conv1x1_bn', loss_weight=0.5),
        ofd2=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer3@preact'], loss='ofd',
            adapter='conv1x1_bn', loss_weight=1.0)),
    image_shape=(3, 32, 32))
