# COCO: DINOv2 ViT-S/14 -> RetinaNet R18 (not run; builds and trains a step in the tests). Cosine between P4 of the pyramid,
# through a 1x1 convolution, and the patch tokens, folded to a map and resized to the student's stride of 16. Padding does
# not count.
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::dinov2/vit-small-p14_dinov2-pre_headless.py', size_multiple=14),
    distillers=dict(
        tokens=dict(
            type='mmkd.FeatureDistiller',
            pairs=[('neck[1]', 'backbone.ln1')],
            loss='cosine',
            adapter='conv1x1',
            loss_scale='auto')))
