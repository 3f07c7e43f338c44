# ShuffleNetV2 x2.0 -> x1.0, AB (not run; builds and trains a step in the tests). Heo et al., 2019, with RepDistiller's
# weights, for the first 30 epochs (of 938 iterations). There the classifier learns only after them, here from the first
# iteration on.
_base_ = './shufflenet-v2-1.0x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py'),
    distillers=dict(
        ab1=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer1@preact'], loss='ab', adapter='conv1x1_bn',
            loss_weight=0.25, end=28140),
        ab2=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer2@preact'], loss='ab', adapter='conv1x1_bn',
            loss_weight=0.5, end=28140),
        ab3=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer3@preact'], loss='ab', adapter='conv1x1_bn',
            loss_weight=1.0, end=28140)),
    image_shape=(3, 32, 32))
