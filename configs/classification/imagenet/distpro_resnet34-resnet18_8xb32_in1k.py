# ImageNet: ResNet-34 -> ResNet-18; the process that distpro-search_resnet34-resnet18_8xb32_in1k.py finds.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
        'resnet34_8xb32_in1k_20210831-f257d4e6.pth'),
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
            student=[
                'backbone.bn1',
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            process='work_dirs/distpro-search_resnet34-resnet18_8xb32_in1k/process.json')))
