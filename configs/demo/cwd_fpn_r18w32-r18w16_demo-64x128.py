# The demo's student, distilled on its logits, channel by channel: nine tenths of the pixels are background, and by the pixel
# that is what a student of so short a run follows.
_base_ = './fpn_r18w16_demo-64x128.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::demo/fpn_r18w32_demo-64x128.py'),
    distillers=dict(cwd=dict(type='mmkd.FeatureDistiller', pairs=['decode_head.conv_seg'], loss='cwd', loss_weight=3.0)))
