# The demo's student with DistPro: the process that distpro-search_pspnet_r18w32-r18w8-d8_demo-64x128.py finds.
_base_ = './pspnet_r18w8-d8_demo-64x128.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::demo/pspnet_r18w32-d8_demo-64x128.py',
        checkpoint='work_dirs/pspnet_r18w32-d8_demo-64x128/iter_600.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            student=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            transforms='conv2',
            process='work_dirs/distpro-search_pspnet_r18w32-r18w8-d8_demo-64x128/process.json')))
