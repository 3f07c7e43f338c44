# RetinaNet R18 with only the stem frozen, as the authors train it (not run; builds and trains a step in the tests). Behind a
# frozen layer1 a tap on C2 carries no gradient.
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
model = dict(backbone=dict(frozen_stages=0))
