# Cityscapes: DeepLabV3+ R101-d8 -> R18-d8. Groups are stages: layer3 and layer4 have one size here.
_base_ = 'mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3plus/deeplabv3plus_r101-d8_512x1024_80k_cityscapes/'
        'deeplabv3plus_r101-d8_512x1024_80k_cityscapes_20200606_114143-068fcfe9.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            aggregation='work_dirs/dfa-search_deeplabv3plus_r101-r18-d8_4xb2-8k_cityscapes-512x1024/aggregation.json',
            distance='normalized',
            connector_norm='SyncBN')))
