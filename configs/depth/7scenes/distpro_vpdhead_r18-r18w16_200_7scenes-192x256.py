# ResNet-18 -> a quarter of its width.
_base_ = './vpdhead_r18w16_200_7scenes-192x256.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::depth/7scenes/vpdhead_r18_200_7scenes-192x256.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            transforms='conv1')))
search = dict(
    config=dict(
        train_cfg=dict(max_iters=100),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
            dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=20, end=100, by_epoch=False)
        ]))
