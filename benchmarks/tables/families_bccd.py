# BCCD, blood cells of three classes, 300 iterations at 192 pixels: short runs of the losses for detectors, their strength
# found by loss_scale='auto'. See docs/results.md. The configs are those for 256 images of COCO, on other images.
folder = 'configs/detection/coco256/'
config = folder + 'mgd-amp_retinanet_r18-r18w16_fpn_300_coco256.py'
data = {'val_evaluator.ann_file': 'data/bccd/coco/val.json'}
data.update({f'{part}_dataloader.dataset.{key}': value for part in ('train', 'val') for key, value in (
    ('data_root', 'data/bccd/'), ('metainfo.classes', '[RBC,WBC,Platelets]'))})
alone = {**data, 'model.bbox_head.num_classes': 3}
mgd = 'model.distillers.mgd.'
taught = {
    **data, 'model.student.bbox_head.num_classes': 3, 'model.teacher.checkpoint': '{teacher}', 'custom_hooks': '[]',
    'model.teacher.overrides.model.bbox_head.num_classes': 3, mgd + '_delete_': True, mgd + 'type': 'mmkd.FeatureDistiller',
    mgd + 'pairs': '[neck[0],neck[1],neck[2],neck[3],neck[4]]', mgd + 'loss_scale': 'auto'
}
metric = 'coco/bbox_mAP_50'
scale = 100
split = 'val'
seeds = [0]
rows = [
    dict(name='teacher', config=folder + 'retinanet_r18_fpn_300_coco256.py', overrides=alone),
    dict(name='student alone', config=folder + 'retinanet_r18w16_fpn_300_coco256.py', overrides=alone),
    *(dict(name=name, config=config, overrides={**taught, mgd + 'loss': name}) for name in ('fgd', 'pkd', 'l2')),
]
del folder, config, data, alone, mgd, taught
