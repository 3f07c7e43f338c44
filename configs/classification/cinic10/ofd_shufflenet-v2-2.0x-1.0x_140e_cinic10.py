# ShuffleNetV2 x2.0 -> x1.0, OFD (not run; builds and trains a step in the tests). Overhaul ("Margin"), Heo et al., 2019,
# as in the DFA authors' framework: before the activation, each stage half the weight of the next, and -1 for the margins,
# since in this network no batch norm comes directly before a stage's last activation.
_base_ = './shufflenet-v2-1.0x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py'),
    distillers=dict(
        ofd0=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.norm1@preact'], loss=dict(type='mmkd.OFDLoss', margin=-1),
            adapter='conv1x1_bn', loss_weight=0.0625),
        ofd1=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer1@preact'], loss=dict(type='mmkd.OFDLoss', margin=-1),
            adapter='conv1x1_bn', loss_weight=0.125),
        ofd2=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer2@preact'], loss=dict(type='mmkd.OFDLoss', margin=-1),
            adapter='conv1x1_bn', loss_weight=0.25),
        ofd3=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer3@preact'], loss=dict(type='mmkd.OFDLoss', margin=-1),
            adapter='conv1x1_bn', loss_weight=0.5),
        ofd4=dict(
            type='mmkd.FeatureDistiller', pairs=['backbone.layer4@preact'], loss=dict(type='mmkd.OFDLoss', margin=-1),
            adapter='conv1x1_bn', loss_weight=1.0)),
    image_shape=(3, 32, 32))
