# A teacher that has seen ImageNet: PSPNet MobileNetV2-d8. Its backbone's weights: tools/model_converters/mobilenet_v2.py.
_base_ = [
    'mmseg::_base_/models/pspnet_r50-d8.py', '../../_base_/datasets/camvid.py', 'mmseg::_base_/default_runtime.py',
    '../../_base_/schedules/camvid_1k.py'
]
model = dict(
    data_preprocessor=dict(size=(128, 176)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=1.0,
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        out_indices=(1, 2, 4, 6),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v2_in1k.pth', prefix='backbone.')),
    decode_head=dict(in_channels=320, channels=128, num_classes=11),
    auxiliary_head=dict(in_channels=96, channels=64, num_classes=11))
# What has been learnt on ImageNet moves a third as fast as what begins here, over twice the schedule.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=100, end=2000, by_epoch=False)
]
train_cfg = dict(max_iters=2000, val_interval=2000)
default_hooks = dict(checkpoint=dict(interval=2000))
