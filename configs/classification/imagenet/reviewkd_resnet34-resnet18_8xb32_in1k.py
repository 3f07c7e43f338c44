# ImageNet: ResNet-34 -> ResNet-18, ReviewKD (not run; builds and trains a step in the tests). Chen et al., 2021, with
# mdistiller's taps and weight, and its warm-up of an epoch.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet34_8xb32_in1k.py'),
    distillers=dict(
        review=dict(
            type='mmkd.ReviewKDDistiller',
            pairs=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
                'neck',
            ],
            loss_weight=1.0, warmup=5005)))
