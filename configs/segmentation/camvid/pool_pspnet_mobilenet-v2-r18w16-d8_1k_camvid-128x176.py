# CamVid, from a teacher that has seen ImageNet: a process over CWD, KD, MGD, L2 and 6 pathways.
_base_ = './pool_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
stages = [
    ['backbone.stem@preact', 'backbone.layer1'],
    ['backbone.layer1@preact', 'backbone.layer2'],
    ['backbone.layer4@preact', 'backbone.layer7'],
]
model = dict(
    teacher=dict(config='mmkd_plugin::segmentation/camvid/pspnet_mobilenet-v2-d8_2k_camvid-128x176.py'),
    distillers=dict(
        kd=dict(_delete_=True, type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg'], loss='kl'),  # the default pool's
        mgd=dict(pairs=stages),
        l2=dict(pairs=stages[2:]),
        pool=dict(levels=stages, total=10.0)))  # as many as there are members: docs/pool.md
