# ShuffleNetV2 x2.0 -> x1.0, SP (not run; builds and trains a step in the tests). Tung and Mori, 2019: the weight is
# theirs, the tap RepDistiller's (the DFA authors' framework adds up all stages).
_base_ = './shufflenet-v2-1.0x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py'),
    distillers=dict(
        sp=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'], loss='sp', loss_weight=3000.0)),
    image_shape=(3, 32, 32))
