# Cityscapes: DINOv2 ViT-S/14 -> PSPNet R18-d8 (not run; builds and trains a step in the tests). Cosine between the last
# stage, through a 1x1 convolution, and the patch tokens, folded to a map and resized to the student's stride of 8. The
# teacher sees images of 518 x 1036.
_base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::dinov2/vit-small-p14_dinov2-pre_headless.py', size_multiple=14),
    distillers=dict(
        tokens=dict(
            type='mmkd.FeatureDistiller',
            pairs=[('backbone.layer4', 'backbone.ln1')],
            loss='cosine',
            adapter='conv1x1',
            loss_scale='auto')))
