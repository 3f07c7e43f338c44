# CUB-200: ResNet-50 -> ShuffleNetV2 x1.0 (not run; builds and trains a step in the tests). At the outputs of its stages
# (g = 4). A stage ends by joining two branches, one of them passed on from the block before; the authors move its last ReLU
# into the next stage, here the tap is after it. At 448x448 with a better teacher, where the paper has 224x224.
_base_ = './shufflenet-v2-1x_8xb8_cub.py'
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
                ('backbone.layers.0', 'backbone.layer2@preact'),
                ('backbone.layers.1', 'backbone.layer3@preact'),
                ('backbone.layers.2', 'backbone.layer4@preact'),
            ])))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=5994)]  # the whole training set
