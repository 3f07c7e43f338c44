# RetinaNet R18 -> a quarter of its width; C3 to C5 before the activation, GN as the extra norm.
_base_ = './retinanet_r18w16_fpn_300_coco256.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::detection/coco256/retinanet_r18_fpn_300_coco256.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            norm='GN',
            reduction='mean',
            loss_scale='auto',
            calibration_iters=50)))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', by_epoch=False, interval=100, num_images=128)]
