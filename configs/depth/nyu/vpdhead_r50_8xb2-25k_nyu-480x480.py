# The teacher, for depth on NYUv2 (not run; builds and trains a step in the tests). mmseg's DepthEstimator with a ResNet-50
# and the depth head of VPD.
_base_ = [
    'mmseg::_base_/datasets/nyu.py', 'mmseg::_base_/default_runtime.py', 'mmseg::_base_/schedules/schedule_25k.py'
]
custom_imports = dict(imports='mmkd_plugin')
crop_size = (480, 480)
meta_keys = ('img_path', 'depth_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip', 'flip_direction')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs', meta_keys=meta_keys)
]
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_val=0,
        seg_pad_val=0, size=crop_size),
    backbone=dict(
        type='ResNet', depth=50, norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    decode_head=dict(
        type='VPDDepthHead', max_depth=10, in_channels=[256, 512, 1024, 2048], embed_dim=64, feature_dim=512),
    test_cfg=dict(mode='whole'))
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(pipeline=train_pipeline))
