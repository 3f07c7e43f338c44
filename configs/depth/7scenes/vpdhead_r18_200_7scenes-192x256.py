# The teacher: mmseg's DepthEstimator with a ResNet-18, from scratch.
_base_ = [
    '../../_base_/datasets/7scenes.py', 'mmseg::_base_/default_runtime.py', '../../_base_/schedules/7scenes_200.py'
]
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_val=0,
        seg_pad_val=0, size=(192, 256)),
    backbone=dict(type='ResNet', depth=18, norm_cfg=dict(type='BN', requires_grad=True)),
    decode_head=dict(
        type='VPDDepthHead', max_depth=10, in_channels=[64, 128, 256, 512], embed_dim=16, feature_dim=128),
    test_cfg=dict(mode='whole'))
