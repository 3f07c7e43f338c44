# ImageNet: ResNet-50 -> MobileNetV2 (not run; builds, trains and searches a step in the tests). At the last block of each
# resolution; its blocks end without an activation. The paper has MobileNetV1, other batches, schedule and set to search on:
# ..._8xb64-cos100e_...
_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                ('backbone.layer1', 'backbone.bn1'),
                ('backbone.layer2', 'backbone.layer1@preact'),
                ('backbone.layer3', 'backbone.layer2@preact'),
                ('backbone.layer5', 'backbone.layer3@preact'),
                ('backbone.layer7', 'backbone.layer4@preact'),
            ])))
search = dict(
    config=dict(
        train_cfg=dict(max_epochs=20),
        param_scheduler=dict(
            _delete_=True, type='CosineAnnealingLR', T_max=20, by_epoch=True, convert_to_iter_based=True)))
