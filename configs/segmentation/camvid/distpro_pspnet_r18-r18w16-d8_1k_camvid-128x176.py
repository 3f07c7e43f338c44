# CamVid: PSPNet R18 at a quarter of the width with DistPro, 10 pathways.
_base_ = './pspnet_r18w16-d8_1k_camvid-128x176.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::segmentation/camvid/pspnet_r18-d8_1k_camvid-128x176.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            transforms='conv1',
            scale_by_pathways=True)))
search = dict(
    config=dict(
        train_cfg=dict(max_iters=500),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
            dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=50, end=500, by_epoch=False)
        ]))
