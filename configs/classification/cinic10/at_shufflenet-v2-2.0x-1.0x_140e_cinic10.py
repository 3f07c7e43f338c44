# ShuffleNetV2 x2.0 -> x1.0, AT (not run; builds and trains a step in the tests). Attention transfer, Zagoruyko and
# Komodakis, 2017, with RepDistiller's weight. The DFA authors' framework adds up |f|^1, weight 30: --cfg-options
# model.distillers.at.loss.power=1 model.distillers.at.loss_weight=30.
_base_ = './shufflenet-v2-1.0x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py'),
    distillers=dict(
        at=dict(
            type='mmkd.FeatureDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            loss=dict(type='mmkd.ATLoss', power=2),
            loss_weight=1000.0)),
    image_shape=(3, 32, 32))
