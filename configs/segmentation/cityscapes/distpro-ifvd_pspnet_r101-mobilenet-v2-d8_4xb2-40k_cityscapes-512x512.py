# Cityscapes: PSPNet R101-d8 -> MobileNetV2, DistPro beside IFVD, as the paper combines them.
_base_ = './pspnet_mobilenet-v2-d8_4xb2-40k_cityscapes-512x512.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_80k_cityscapes/'
        'pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth'),
    distillers=dict(
        ifvd=dict(type='mmkd.IFVDDistiller', student='decode_head.bottleneck'),
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            student=['backbone.layer2', 'backbone.layer3', 'backbone.layer5', 'backbone.layer7'],
            process='work_dirs/distpro-ifvd-search_pspnet_r101-mobilenet-v2-d8_4xb2-8k_cityscapes-512x512/process.json')))
