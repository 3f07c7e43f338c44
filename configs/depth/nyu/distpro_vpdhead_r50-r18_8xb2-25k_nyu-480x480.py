# NYUv2 depth: ResNet-50 -> ResNet-18 (not run; builds, trains and searches a step in the tests).
_base_ = './vpdhead_r18_8xb2-25k_nyu-480x480.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::depth/nyu/vpdhead_r50_8xb2-25k_nyu-480x480.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ])))
search = dict(
    hook=dict(lr=0.05),  # the paper's, which the default would lower: the search is shorter than on CIFAR-100
    config=dict(
        train_cfg=dict(max_iters=5000),
        param_scheduler=[
            dict(type='LinearLR', start_factor=3e-2, begin=0, end=500, by_epoch=False),
            dict(type='PolyLR', eta_min=3e-5, power=0.9, begin=500, end=5000, by_epoch=False)
        ]))
