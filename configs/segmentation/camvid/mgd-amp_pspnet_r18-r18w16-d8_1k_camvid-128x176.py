# CamVid: PSPNet R18 at a quarter of the width, distilled by MGD with absolute max pooling.
_base_ = './pspnet_r18w16-d8_1k_camvid-128x176.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::segmentation/camvid/pspnet_r18-d8_1k_camvid-128x176.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            reduction='mean')))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=100)]
