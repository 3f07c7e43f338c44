# COCO: RetinaNet R50 -> R18, the pyramid's levels (not run; builds, trains and searches a step in the tests).
_base_ = './retinanet_r18-freeze0_fpn_1x_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=['neck[0]', 'neck[1]', 'neck[2]', 'neck[3]', 'neck[4]'],
            transforms='conv1')))
search = dict(
    config=dict(
        train_cfg=dict(max_epochs=3),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
            dict(type='MultiStepLR', by_epoch=True, milestones=[2], gamma=0.1)
        ]))
