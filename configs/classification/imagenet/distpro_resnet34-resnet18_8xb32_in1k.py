# ImageNet: ResNet-34 -> ResNet-18 (not run; builds, trains and searches a step in the tests). The
# paper's 15 pathways; batch, schedule and the set that is searched on are mmpretrain's, those of the paper:
# ..._8xb64-cos100e_...
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet34_8xb32_in1k.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                'backbone.bn1',
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ])))
search = dict(config=dict(train_cfg=dict(max_epochs=20), param_scheduler=dict(milestones=[6, 12, 18])))
