# CamVid: PSPNet R18 at a quarter of the width, with the aggregations that the search has found.
_base_ = './pspnet_r18w16-d8_1k_camvid-128x176.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::segmentation/camvid/pspnet_r18-d8_1k_camvid-128x176.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            distance='normalized')))
# The search: 200 iterations for each group.
search = dict(
    split=0.7,
    hook=dict(optimizer=dict(type='Adam', lr=2e-2, betas=(0.5, 0.999))),
    distiller=dict(gamma_st='auto'),
    config=dict(
        train_cfg=dict(max_iters=800),
        param_scheduler=None))  # the weights are shared by all groups: a schedule would starve the last
