# ImageNet: ResNet-50 -> MobileNetV1, OFD (not run; builds and trains a step in the tests). Heo et al., 2019, with their
# constants for ImageNet: the sum over an image by 10000, each stage half the weight of the next. At the taps of DistPro's
# config, in its recipe.
_base_ = './mobilenet-v1_8xb64-cos100e_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py'),
    distillers=dict(
        ofd0=dict(
            type='mmkd.FeatureDistiller', pairs=[('backbone.layer2@preact', 'backbone.layer1@preact')],
            loss=dict(type='mmkd.OFDLoss', divisor=1e4), adapter='conv1x1_bn', loss_weight=0.125),
        ofd1=dict(
            type='mmkd.FeatureDistiller', pairs=[('backbone.layer3@preact', 'backbone.layer2@preact')],
            loss=dict(type='mmkd.OFDLoss', divisor=1e4), adapter='conv1x1_bn', loss_weight=0.25),
        ofd2=dict(
            type='mmkd.FeatureDistiller', pairs=[('backbone.layer4@preact', 'backbone.layer3@preact')],
            loss=dict(type='mmkd.OFDLoss', divisor=1e4), adapter='conv1x1_bn', loss_weight=0.5),
        ofd3=dict(
            type='mmkd.FeatureDistiller', pairs=[('backbone.layer5@preact', 'backbone.layer4@preact')],
            loss=dict(type='mmkd.OFDLoss', divisor=1e4), adapter='conv1x1_bn', loss_weight=1.0)))
