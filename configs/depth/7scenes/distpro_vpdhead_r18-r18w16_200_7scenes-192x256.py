# ResNet-18 -> a quarter of its width, the process that distpro-search_vpdhead_r18-r18w16_100_7scenes-192x256.py finds.
_base_ = './vpdhead_r18w16_200_7scenes-192x256.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::depth/7scenes/vpdhead_r18_200_7scenes-192x256.py',
        checkpoint='work_dirs/vpdhead_r18_200_7scenes-192x256/iter_200.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            student=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            transforms='conv1',
            process='work_dirs/distpro-search_vpdhead_r18-r18w16_100_7scenes-192x256/process.json')))
