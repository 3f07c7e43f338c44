# The demo's student, with the aggregations that the search has found.
_base_ = './pspnet_r18w8-d8_demo-64x128.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::demo/pspnet_r18w32-d8_demo-64x128.py',
        checkpoint='work_dirs/pspnet_r18w32-d8_demo-64x128/iter_600.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            aggregation='work_dirs/dfa-search_pspnet_r18w32-r18w8-d8_demo-64x128/aggregation.json',
            distance='normalized')))
