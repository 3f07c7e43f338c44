# WRN-28-4 -> WRN-16-4, FT (not run; builds and trains a step in the tests). Kim et al., 2018, with RepDistiller's
# distance and weight. Without the paraphraser, an auto-encoder that is trained on the teacher beforehand.
_base_ = './wrn-16-4_200e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-28-4_200e_cifar100.py'),
    distillers=dict(
        ft=dict(
            type='mmkd.FeatureDistiller',
            pairs=['backbone.layer3'],
            loss=dict(type='mmkd.FTLoss', attention=True),
            loss_weight=200.0)),
    image_shape=(3, 32, 32))
