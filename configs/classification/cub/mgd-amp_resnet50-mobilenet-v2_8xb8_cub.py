# CUB-200: ResNet-50 -> MobileNetV2 (not run; builds and trains a step in the tests). At the depthwise outputs of the paper
# (its first stage is ignored), but at 448x448 with a better teacher, where the paper has 224x224.
_base_ = './mobilenet-v2_8xb8_cub.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet50_8xb8_cub.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=[
                ('backbone.layer4.0@preact', 'backbone.layer2@preact'),
                ('backbone.layer5.0@preact', 'backbone.layer3@preact'),
                ('backbone.layer7.0@preact', 'backbone.layer4@preact'),
            ])))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=5994)]  # the whole training set
