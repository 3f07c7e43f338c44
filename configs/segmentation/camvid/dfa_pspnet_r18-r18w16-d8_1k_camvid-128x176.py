# CamVid: PSPNet R18 at a quarter of the width, with the aggregations that the search has found.
_base_ = './pspnet_r18w16-d8_1k_camvid-128x176.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::segmentation/camvid/pspnet_r18-d8_1k_camvid-128x176.py',
        checkpoint='work_dirs/pspnet_r18-d8_1k_camvid-128x176/iter_1000.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            aggregation='work_dirs/dfa-search_pspnet_r18-r18w16-d8_800_camvid-128x176/aggregation.json',
            distance='normalized')))
