# The teacher: PSPNet R18-d8 at full width, trained from scratch.
_base_ = [
    'mmseg::_base_/models/pspnet_r50-d8.py', '../../_base_/datasets/camvid.py', 'mmseg::_base_/default_runtime.py',
    '../../_base_/schedules/camvid_1k.py'
]
model = dict(
    data_preprocessor=dict(size=(128, 176)),
    pretrained=None,
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128, num_classes=11),
    auxiliary_head=dict(in_channels=256, channels=64, num_classes=11))
