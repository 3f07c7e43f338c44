# CamVid: the same student, distilled by MGD and on its logits.
_base_ = './mgd-amp_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
model = dict(
    distillers=dict(kd=dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg'], temperature=2.0)))
