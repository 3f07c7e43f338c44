# CUB-200: ResNet-50 -> MobileNetV2, at the depthwise outputs of the paper (its first stage is ignored).
_base_ = './mobilenet-v2_8xb8_cub.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmpretrain::resnet/resnet50_8xb8_cub.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb8_cub_20220307-57840e60.pth'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=[
                ('backbone.layer4.0@preact', 'backbone.layer2@preact'),
                ('backbone.layer5.0@preact', 'backbone.layer3@preact'),
                ('backbone.layer7.0@preact', 'backbone.layer4@preact'),
            ])))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=5994)]  # the whole training set
