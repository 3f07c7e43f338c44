# ImageNet: ResNet-34 -> ResNet-18 with the aggregations that the search has found.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
        'resnet34_8xb32_in1k_20210831-f257d4e6.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            aggregation='work_dirs/dfa-search_resnet34-resnet18_8xb32_in1k/aggregation.json')))
