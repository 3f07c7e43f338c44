# Blood cells, test split, 200 iterations: a short run of the losses for detectors, their strength found by
# loss_scale='auto'. See docs/results/detection.md. The options of each loss are its defaults.
folder = 'configs/detection/bccd/'
pair = 'retinanet_r18-r18w16_fpn_600_bccd.py'


def iterations(number):
    return {'train_cfg.max_iters': number, 'train_cfg.val_interval': 1000, 'param_scheduler.1.end': number,
            'default_hooks.checkpoint.interval': number}


taught = {**iterations(200), 'model.teacher.checkpoint': '{teacher}'}
metric = 'coco/bbox_mAP'
scale = 100
split = 'test'
seeds = [0]
rows = [
    dict(name='teacher', config=folder + 'retinanet_r18_fpn_600_bccd.py', overrides=iterations(300)),
    dict(name='student alone', config=folder + 'retinanet_r18w16_fpn_600_bccd.py', overrides=iterations(200)),
    dict(name='fgd', config=folder + 'pkd_' + pair, overrides={**taught, 'model.distillers.pkd.loss': 'fgd'}),
]
del folder, pair, iterations, taught
