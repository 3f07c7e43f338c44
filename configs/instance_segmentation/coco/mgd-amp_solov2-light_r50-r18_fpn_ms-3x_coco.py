# COCO: SOLOv2-light R50 -> R18 (g = 4) (not run; builds and trains a step in the tests). layer1 is frozen in the student, so
# C3 to C5.
_base_ = 'mmdet::solov2/solov2-light_r18_fpn_ms-3x_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmdet::solov2/solov2-light_r50_fpn_ms-3x_coco.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            norm='GN',
            reduction='mean',
            loss_scale='auto')))
# Denser at the start, as the authors' points for 12 epochs are; the points are ours.
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=[1, 2, 4, 8, 16], num_images=16016)]
