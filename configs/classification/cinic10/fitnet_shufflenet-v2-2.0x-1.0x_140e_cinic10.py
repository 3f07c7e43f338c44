# ShuffleNetV2 x2.0 -> x1.0, FitNet (not run; builds and trains a step in the tests). Romero et al., 2015, as in
# mdistiller: the hint is the second stage, the regressor a 1x1 convolution and a batch norm, weight 100.
_base_ = './shufflenet-v2-1.0x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py'),
    distillers=dict(
        fitnet=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer2'], loss='l2', adapter='conv1x1_bn', loss_weight=100.0)),
    image_shape=(3, 32, 32))
