# ShuffleNetV2 x2.0 -> x0.5 with the aggregations that the search has found.
_base_ = './shufflenet-v2-0.5x_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::classification/cinic10/shufflenet-v2-2.0x_140e_cinic10.py',
        checkpoint='work_dirs/shufflenet-v2-2.0x_140e_cinic10/epoch_140.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            aggregation='work_dirs/dfa-search_shufflenet-v2-2.0x-0.5x_40e_cinic10/aggregation.json')),
    image_shape=(3, 32, 32))
