# 20 classes of CIFAR-100, 2 epochs: a short run of each family of losses, its strength found by loss_scale='auto'.
# See docs/results/classification.md. Options of a loss are its defaults, but for the numbers that follow from the data.
folder = 'configs/classification/cifar100-20/'
feature, score = (folder + name + '_resnet14x2-resnet8_8e_cifar100-20.py' for name in ('l2', 'kd'))
# Neither the teacher's variant nor the student's format is chosen by time: a cell is a function of its seed.
short = {
    'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 2, 'param_scheduler.1.T_max': 2,
    'default_hooks.checkpoint.interval': 2, 'default_hooks.format.mode': 'on'
}
runtime = {'model.teacher.runtime.' + key: True for key in ('_delete_', 'fold_bn', 'channels_last')}
taught = {**short, **runtime, 'model.teacher.checkpoint': '{teacher}'}
hint, kd = 'model.distillers.l2.', 'model.distillers.kd.'
last, pooled = {hint + 'pairs': '[backbone.layer3@preact]'}, {hint + 'pairs': '[neck]'}
scored = {**taught, kd + 'loss_scale': 'auto', kd + 'temperature': 'None'}
metric = 'accuracy/top1'
split = 'val'
seeds = [0]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py'),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py', overrides=short),
    *(dict(name=name, config=feature, overrides={**taught, hint + 'loss': name, **more}) for name, more in dict(
        l2={}, l1={}, cosine={}, hcl={}, at={}, nst={}, ft={}, sp=last, vid={}, cwd={}, pkd={}, masked_generative={},
        ab={hint + 'adapter': 'conv1x1_bn'}, ofd={hint + 'adapter': 'conv1x1_bn'}, pkt=pooled, rkd_distance=pooled,
        rkd_angle=pooled, skd_pairwise=last).items()),
    dict(name='cirkd_pixel', config=feature, overrides={
        **taught, **last, hint + 'loss.type': 'cirkd_pixel', hint + 'loss.pool': True}),
    # Its memory changes with every step: gradients of both formats are never those of one state.
    dict(name='crd', config=feature, overrides={
        **taught, **pooled, hint + 'loss.type': 'crd', hint + 'loss.images': 10000, hint + 'loss.negatives': 4096,
        'default_hooks.format.mode': 'off'}),
    dict(name='ReviewKD', config=feature, overrides={**taught, hint + 'type': 'mmkd.ReviewKDDistiller'}),
    *(dict(name=name, config=score, overrides={**scored, kd + 'loss.type': name, **more}) for name, more in dict(
        kl={kd + 'loss.temperature': 4}, dkd={}, nkd={}, dist={}, mlkd={}, wsld={}).items()),
    dict(name='kl, standardised', config=score, overrides={
        **scored, kd + 'loss.type': 'kl', kd + 'loss.temperature': 4, kd + 'loss.standardise': True}),
]
del folder, feature, score, short, runtime, taught, hint, kd, last, pooled, scored
