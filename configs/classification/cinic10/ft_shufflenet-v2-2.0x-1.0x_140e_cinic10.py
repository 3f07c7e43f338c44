# ShuffleNetV2 x2.0 -> x1.0, FT (not run; builds and trains a step in the tests). Kim et al., 2018, with RepDistiller's
# distance and weight. Without the paraphraser, an auto-encoder that is trained on the teacher beforehand.
_base_ = './shufflenet-v2-1.0x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py'),
    distillers=dict(
        ft=dict(
            type='mmkd.FeatureDistiller',
            pairs=['backbone.layer3'],
            loss=dict(type='mmkd.FTLoss', attention=True),
            loss_weight=200.0)),
    image_shape=(3, 32, 32))
