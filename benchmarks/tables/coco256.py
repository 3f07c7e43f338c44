# 128 training images of COCO, 128 others for evaluation; see docs/results/detection.md.
folder = 'configs/detection/coco256/'
taught = {name: {'model.teacher.checkpoint': '{teacher, ' + name + '}'} for name in ('RetinaNet', 'Faster R-CNN')}
metric = 'coco/bbox_mAP_50'
scale = 100
split = 'val'
seeds = [0]
rows = [
    dict(name='teacher, RetinaNet', config=folder + 'retinanet_r18_fpn_300_coco256.py', seeds=[0]),
    dict(name='RetinaNet alone', config=folder + 'retinanet_r18w16_fpn_300_coco256.py'),
    dict(name='RetinaNet, MGD-AMP', config=folder + 'mgd-amp_retinanet_r18-r18w16_fpn_300_coco256.py',
         overrides=taught['RetinaNet']),
    dict(name='teacher, Faster R-CNN', config=folder + 'faster-rcnn_r18_fpn_300_coco256.py', seeds=[0]),
    dict(name='Faster R-CNN alone', config=folder + 'faster-rcnn_r18w16_fpn_300_coco256.py'),
    dict(name='Faster R-CNN, MGD-AMP', config=folder + 'mgd-amp_faster-rcnn_r18-r18w16_fpn_300_coco256.py',
         overrides=taught['Faster R-CNN']),
]
del folder, taught
