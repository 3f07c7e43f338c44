# RetinaNet R18 -> a quarter of its width; C3 to C5 before the activation, GN as the extra norm.
_base_ = './retinanet_r18w16_fpn_600_bccd.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::detection/bccd/retinanet_r18_fpn_600_bccd.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            norm='GN',
            reduction='mean',
            loss_scale='auto')))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', by_epoch=False, interval=100, num_images=205)]
