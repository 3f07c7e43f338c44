# CamVid, from a teacher that has seen ImageNet: a process over CWD, KD, MGD, L2 and 6 pathways.
_base_ = './pspnet_r18w16-d8_1k_camvid-128x176.py'
custom_imports = dict(imports='mmkd_plugin')
stages = [
    ['backbone.stem@preact', 'backbone.layer1'],
    ['backbone.layer1@preact', 'backbone.layer2'],
    ['backbone.layer4@preact', 'backbone.layer7'],
]
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::segmentation/camvid/pspnet_mobilenet-v2-d8_2k_camvid-128x176.py'),
    distillers=dict(
        cwd=dict(
            type='mmkd.FeatureDistiller', pairs=['decode_head.conv_seg'], loss=dict(type='mmkd.CWDLoss', temperature=4.0)),
        kd=dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg'], loss='kl'),
        mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=stages, reduction='mean'),
        l2=dict(type='mmkd.FeatureDistiller', pairs=stages[2:]),
        pool=dict(
            type='mmkd.DistProDistiller',
            members=['cwd', 'kd', 'mgd', 'l2'],
            levels=stages,
            transforms='conv1',
            total=10.0)))  # as many as there are members: docs/pool.md
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=100)]
search = dict(
    config=dict(
        train_cfg=dict(max_iters=500),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
            dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=50, end=500, by_epoch=False)
        ]))
