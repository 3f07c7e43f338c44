# ImageNet: ResNet-50 -> MobileNetV2, ReviewKD (not run; builds and trains a step in the tests). Chen et al., 2021, with
# mdistiller's weight, width and warm-up of an epoch for MobileNetV1. At the taps of DistPro's config and the neck.
_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py'),
    distillers=dict(
        review=dict(
            type='mmkd.ReviewKDDistiller',
            pairs=[
                ('backbone.layer2', 'backbone.layer1@preact'),
                ('backbone.layer3', 'backbone.layer2@preact'),
                ('backbone.layer5', 'backbone.layer3@preact'),
                ('backbone.layer7', 'backbone.layer4@preact'),
                'neck',
            ],
            loss_weight=8.0, warmup=5005, hidden=256)))
