# Cityscapes: PSPNet R101-d8 -> R18-d8 (not run; builds and trains a step in the tests). MGD with absolute max pooling.
_base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact'],
            norm='SyncBN',
            reduction='mean')))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=20, num_images=500)]
