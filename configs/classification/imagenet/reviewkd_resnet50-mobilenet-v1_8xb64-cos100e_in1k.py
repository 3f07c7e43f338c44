# ImageNet: ResNet-50 -> MobileNetV1, ReviewKD (not run; builds and trains a step in the tests). Chen et al., 2021, with
# mdistiller's weight, width and warm-up of an epoch (here at batch 512). At the taps of DistPro's config and the neck, in
# its recipe.
_base_ = './mobilenet-v1_8xb64-cos100e_in1k.py'
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
                ('backbone.layer2@preact', 'backbone.layer1@preact'),
                ('backbone.layer3@preact', 'backbone.layer2@preact'),
                ('backbone.layer4@preact', 'backbone.layer3@preact'),
                ('backbone.layer5@preact', 'backbone.layer4@preact'),
                'neck',
            ],
            loss_weight=8.0, warmup=2503, hidden=256)))
