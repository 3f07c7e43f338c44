# 20 classes of CIFAR-100, ResNet14x2 -> ResNet8, 30 epochs: what still helps a student that is trained for longer.
# The rows of cifar100-20_8e.py that decide; see docs/results/classification.md.
folder = 'configs/classification/cifar100-20/'
pair = 'resnet14x2-resnet8_8e_cifar100-20.py'
longer = {'train_cfg.max_epochs': 30, 'train_cfg.val_interval': 5, 'default_hooks.checkpoint.interval': 5,
          'default_hooks.checkpoint.max_keep_ckpts': 1, 'param_scheduler.1.T_max': 30, 'default_hooks.format.mode': 'on'}
short = {**{'model.teacher.runtime.' + key: True for key in ('_delete_', 'fold_bn', 'channels_last')},
         'model.teacher.checkpoint': '{teacher}', 'default_hooks.format.mode': 'on'}
taught = {**longer, **short}
kd, distpro = 'model.distillers.kd.', 'model.distillers.distpro.'
standardised = {kd + 'loss_scale': 'auto', kd + 'temperature': 'None', kd + 'loss.type': 'kl', kd + 'loss.temperature': 2.0,
                kd + 'loss.standardise': True}
found = {**taught, distpro + 'process': '{search:process.json}'}
stages = [f'[backbone.layer{stage}@preact, backbone.layer{stage}@preact]' for stage in (1, 2, 3)]
own_levels = {distpro + 'connections': f'[{", ".join(stages)}]', distpro + 'total': 6.0,
              distpro + 'scale_by_pathways': False}
metric = 'accuracy/top1'
split = 'val'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py',
         checkpoint=folder + 'resnet14x2_24e_cifar100-20.pth', seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py', overrides=longer),
    dict(name='KD, standardised', config=folder + 'kd_' + pair, overrides={**taught, **standardised}),
    dict(name='ReviewKD', config=folder + 'reviewkd_' + pair, overrides=taught),
    dict(name='MGD-AMP', config=folder + 'mgd-amp_' + pair, overrides=taught),
    dict(name='MGD and KD', label='MGD-AMP + KD', config=folder + 'mgd-amp-kd_' + pair, overrides=taught),
    dict(name='search', config=folder + 'distpro_' + pair, stage='search', overrides=short, seeds=[0]),
    dict(name='DistPro', label='DistPro: the process', config=folder + 'distpro_' + pair, overrides=found),
    dict(name='DistPro, alpha_T', label='its last weights (alpha_T)', config=folder + 'distpro-final_' + pair,
         overrides=found),
    dict(name='DistPro, equal', label='its pathways, equal weights', config=folder + 'distpro-equal_' + pair,
         overrides=taught),
    dict(name='DistPro, own levels', label='each stage to its own, equal weights of the same sum',
         config=folder + 'distpro-equal_' + pair, overrides={**taught, **own_levels}),
    dict(name='auto', config=folder + 'auto_' + pair, overrides=taught),
]
del folder, pair, longer, short, taught, kd, distpro, standardised, found, stages, own_levels
