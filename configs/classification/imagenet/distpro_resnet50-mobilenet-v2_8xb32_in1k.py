# ImageNet: ResNet-50 -> MobileNetV2, at the last block of each resolution; its blocks end without an activation. The process
# that distpro-search_resnet50-mobilenet-v2_8xb32_in1k.py finds.
_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmpretrain::resnet/resnet50_8xb32_in1k.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
        'resnet50_8xb32_in1k_20210831-ea4938fc.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=[
                'backbone.bn1',
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            student=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer5', 'backbone.layer7'],
            process='work_dirs/distpro-search_resnet50-mobilenet-v2_8xb32_in1k/process.json')))
