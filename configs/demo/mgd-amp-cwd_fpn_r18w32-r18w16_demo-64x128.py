# The demo's student, distilled by MGD and on its logits.
_base_ = './mgd-amp_fpn_r18w32-r18w16_demo-64x128.py'
model = dict(
    distillers=dict(cwd=dict(type='mmkd.FeatureDistiller', pairs=['decode_head.conv_seg'], loss='cwd', loss_weight=3.0)))
