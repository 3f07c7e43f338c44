# The demo's student with DistPro (not run; builds, trains and searches a step in the tests).
_base_ = './pspnet_r18w8-d8_demo-64x128.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::demo/pspnet_r18w32-d8_demo-64x128.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            transforms='conv2')))
search = dict(
    config=dict(
        train_cfg=dict(max_iters=200),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
            dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=30, end=200, by_epoch=False)
        ]))
