# Cityscapes: PSPNet R101-d8 -> R18-d8. Groups are stages: layer3 and layer4 have one size here.
_base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_80k_cityscapes/'
        'pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            aggregation='work_dirs/dfa-search_pspnet_r101-r18-d8_4xb2-8k_cityscapes-512x1024/aggregation.json',
            distance='normalized',
            connector_norm='SyncBN')))
