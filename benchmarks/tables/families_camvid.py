# CamVid, test split, 300 iterations: a short run of each family of losses for segmentation, its strength found by
# loss_scale='auto'. See docs/results/segmentation.md. The options of each loss are its defaults.
folder = 'configs/segmentation/camvid/'
config = folder + 'kd_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
short = {
    'train_cfg.max_iters': 300, 'train_cfg.val_begin': 1000, 'param_scheduler.1.end': 300,
    'default_hooks.checkpoint.interval': 300
}
kd = 'model.distillers.kd.'
taught = {**short, 'model.teacher.checkpoint': '{teacher}', kd + 'loss_scale': 'auto'}
hint = {**taught, kd + '_delete_': True, kd + 'type': 'mmkd.FeatureDistiller'}
metric = 'mIoU'
split = 'test'
seeds = [0]
rows = [
    dict(name='teacher', config=folder + 'pspnet_r18-d8_1k_camvid-128x176.py'),
    dict(name='student alone', config=folder + 'pspnet_r18w16-d8_1k_camvid-128x176.py', overrides=short),
    *(dict(name=name, config=config, overrides={**hint, kd + 'pairs': pairs, kd + 'loss': name}) for name, pairs in dict(
        cwd='[decode_head.conv_seg]', ifvd='[decode_head.conv_seg@in]', cirkd_channel='[backbone.layer4]').items()),
    dict(name='IFVD, with its logits', config=config, overrides={
        **taught, kd + '_delete_': True, kd + 'type': 'mmkd.IFVDDistiller'}),
]
del folder, config, short, kd, taught, hint
