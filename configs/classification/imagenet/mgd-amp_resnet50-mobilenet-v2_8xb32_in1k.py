# ImageNet: ResNet-50 -> MobileNetV2 (not run; builds and trains a step in the tests). At the depthwise outputs of the paper
# (its first stage is ignored).
_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=[
                ('backbone.layer4.0@preact', 'backbone.layer2@preact'),
                ('backbone.layer5.0@preact', 'backbone.layer3@preact'),
                ('backbone.layer7.0@preact', 'backbone.layer4@preact'),
            ])))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=1, num_images=20480)]
