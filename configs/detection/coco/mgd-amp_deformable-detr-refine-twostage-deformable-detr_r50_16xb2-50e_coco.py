# COCO: two-stage Deformable DETR with box refinement -> the plain one (not run; builds and trains a step in the tests). R50
# each; both are published. The taps are C3 to C5: a backbone has features of images before an activation, which is what MGD
# compares; queries and tokens are neither.
_base_ = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmdet::deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            norm='GN',
            reduction='mean',
            loss_scale='auto')))
# Denser at the start, as the authors' points for 12 epochs are; the points are ours.
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=[1, 2, 4, 8, 16], num_images=16016)]
