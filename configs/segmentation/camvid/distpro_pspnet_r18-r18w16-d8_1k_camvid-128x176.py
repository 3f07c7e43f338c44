# CamVid: PSPNet R18 at a quarter of the width with DistPro, 10 pathways; the process that the search of the same name finds.
_base_ = './pspnet_r18w16-d8_1k_camvid-128x176.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::segmentation/camvid/pspnet_r18-d8_1k_camvid-128x176.py',
        checkpoint='work_dirs/pspnet_r18-d8_1k_camvid-128x176/iter_1000.pth'),
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
            scale_by_pathways=True,
            process='work_dirs/distpro-search_pspnet_r18-r18w16-d8_500_camvid-128x176/process.json')))
