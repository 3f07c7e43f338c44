# COCO: Mask R-CNN R101 -> R50 (equal widths: g = 1, a permutation) (not run; builds and trains a step in the tests). layer1
# is frozen in the student, so C3 to C5.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            norm='GN',
            reduction='mean',
            loss_scale='auto')))
custom_hooks = [
    dict(type='mmkd.MatchingUpdateHook', by_epoch=False, interval=[5000, 10000, 15000, 31000, 62000], num_images=16016)
]
