# Cityscapes: PSPNet R101-d8 -> MobileNetV2, IFVD and ReviewKD (not run; builds and trains a step in the tests). IFVD
# alone: --cfg-options model.distillers.review.loss_weight=0. The weight of ReviewKD beside it is not published; the taps
# are those of DistPro's config.
_base_ = './pspnet_mobilenet-v2-d8_4xb2-40k_cityscapes-512x512.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distillers=dict(
        ifvd=dict(type='mmkd.IFVDDistiller', pairs=['decode_head.bottleneck']),
        review=dict(
            type='mmkd.ReviewKDDistiller',
            pairs=[
                ('backbone.layer2', 'backbone.layer1@preact'),
                ('backbone.layer3', 'backbone.layer2@preact'),
                ('backbone.layer5', 'backbone.layer3@preact'),
                ('backbone.layer7', 'backbone.layer4@preact'),
            ],
            loss_weight=1.0)))
