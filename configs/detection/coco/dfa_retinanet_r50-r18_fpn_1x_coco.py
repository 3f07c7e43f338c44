# COCO: RetinaNet R50 -> R18. The first stage is frozen, and the pyramid begins at layer2.
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/'
        'retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            mode='distill',
            groups=['backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            aggregation='work_dirs/dfa-search_retinanet_r50-r18_fpn_2e_coco/aggregation.json',
            distance='normalized')))
