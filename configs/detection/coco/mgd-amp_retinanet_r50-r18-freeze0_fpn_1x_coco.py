# COCO: RetinaNet R50 -> R18, the paper's (not run; builds and trains a step in the tests). C2 to C5 before the activation,
# GN as the extra norm, updates at 0, 5k, 10k, ...
#
# The authors divide the sum over a GPU's 2 images by 5e7 * [1, 1, 0.1, 0.1] and by the 16 images of all 8 GPUs; here it is
# divided by the GPU's 2 images and by divisor * area / 224^2. DDP averages the gradients over the GPUs in both. So
#     2 * divisor * area / 224^2 = 16 * 5e7   =>   divisor = 4e8 * 224^2 / area = 1.8667e7 for an image of 800 x 1344;
# the factors 0.1 of C4 and C5 are weights of 10. At other sizes the authors' loss grows with the area, this one does not.
_base_ = './retinanet_r18-freeze0_fpn_1x_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            norm='GN',
            divisor=1.8667e7,
            stage_weights=[1, 1, 10, 10])))
custom_hooks = [
    dict(type='mmkd.MatchingUpdateHook', by_epoch=False, interval=[5000, 10000, 15000, 31000, 62000], num_images=16016)
]
