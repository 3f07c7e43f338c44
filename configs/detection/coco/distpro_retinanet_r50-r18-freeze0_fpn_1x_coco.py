# COCO: RetinaNet R50 -> R18, the pyramid's levels; the process that
# distpro-search_retinanet_r50-r18-freeze0_fpn_3e_coco.py finds.
_base_ = './retinanet_r18-freeze0_fpn_1x_coco.py'
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
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=['neck[0]', 'neck[1]', 'neck[2]', 'neck[3]', 'neck[4]'],
            student=['neck[0]', 'neck[1]', 'neck[2]', 'neck[3]', 'neck[4]'],
            transforms='conv1',
            process='work_dirs/distpro-search_retinanet_r50-r18-freeze0_fpn_3e_coco/process.json')))
