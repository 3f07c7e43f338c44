# ImageNet: ResNet-50 -> MobileNetV1, the paper's pair (not run; builds and trains a step in the tests). The last four
# stages before their activation, half as wide as the teacher's; a new matching after every epoch.
_base_ = './mobilenet-v1_8xb32_in1k.py'
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
                ('backbone.layer2@preact', 'backbone.layer1@preact'),
                ('backbone.layer3@preact', 'backbone.layer2@preact'),
                ('backbone.layer4@preact', 'backbone.layer3@preact'),
                ('backbone.layer5@preact', 'backbone.layer4@preact'),
            ])))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=1, num_images=20480)]
