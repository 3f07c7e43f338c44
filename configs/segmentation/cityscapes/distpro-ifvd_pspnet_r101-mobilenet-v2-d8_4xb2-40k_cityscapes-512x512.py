# Cityscapes: PSPNet R101-d8 -> MobileNetV2 (not run; builds, trains and searches a step in the tests). DistPro beside IFVD,
# as the paper combines them.
_base_ = './pspnet_mobilenet-v2-d8_4xb2-40k_cityscapes-512x512.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distillers=dict(
        ifvd=dict(type='mmkd.IFVDDistiller', pairs=['decode_head.bottleneck']),
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                ('backbone.layer2', 'backbone.layer1@preact'),
                ('backbone.layer3', 'backbone.layer2@preact'),
                ('backbone.layer5', 'backbone.layer3@preact'),
                ('backbone.layer7', 'backbone.layer4@preact'),
            ])))
search = dict(
    hook=dict(lr=0.05),  # the paper's, which the default would lower: the search is shorter than on CIFAR-100
    config=dict(
        train_cfg=dict(max_iters=8000),
        param_scheduler=[dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=8000, by_epoch=False)]))
