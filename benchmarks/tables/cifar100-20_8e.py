# 20 classes of CIFAR-100, ResNet14x2 -> ResNet8, 8 epochs: every method, and what it is compared with, from the teacher
# that is shipped: one that is trained anew differs with the processor.
# See docs/results/classification.md and docs/pool.md.
folder = 'configs/classification/cifar100-20/'
pair = 'resnet14x2-resnet8_8e_cifar100-20.py'
# Neither the teacher's variant nor the student's format is chosen by time: a cell is a function of its seed.
runtime = {'model.teacher.runtime.' + key: True for key in ('_delete_', 'fold_bn', 'channels_last')}
format_on = {'default_hooks.format.mode': 'on'}
taught = {**runtime, **format_on, 'model.teacher.checkpoint': '{teacher}'}
pool, l2, kd, auto = 'model.distillers.pool.', 'model.distillers.l2.', 'model.distillers.kd.', 'model.distillers.auto.'
distpro = 'model.distillers.distpro.'
pool_found = {**taught, pool + 'process': '{search of the pool:process.json}'}
found = {**taught, distpro + 'process': '{search:process.json}'}
found_elsewhere = {**taught, distpro + 'process': '{search, other student:process.json}'}
aggregated = {**taught, 'model.distillers.dfa.aggregation': '{search of DFA:aggregation.json}'}
scores = {**taught, kd + 'loss_scale': 'auto', kd + 'temperature': 'None'}
standardised = {kd + 'loss.type': 'kl', kd + 'loss.temperature': 2.0, kd + 'loss.standardise': True}
stages = [f'[backbone.layer{stage}@preact, backbone.layer{stage}@preact]' for stage in (1, 2, 3)]
own_levels = {distpro + 'connections': f'[{", ".join(stages)}]', distpro + 'total': 6.0,
              distpro + 'scale_by_pathways': False}
metric = 'accuracy/top1'
split = 'val'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py',
         checkpoint=folder + 'resnet14x2_24e_cifar100-20.pth', seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py', overrides=format_on),
    dict(name='KD', label='KD, T = 4', config=folder + 'kd_' + pair, overrides=taught),
    dict(name='KD, standardised', config=folder + 'kd_' + pair, overrides={**scores, **standardised}),
    dict(name='DIST', config=folder + 'kd_' + pair, overrides={**scores, kd + 'loss.type': 'dist'}),
    dict(name='L2', label='L2 of the stages', config=folder + 'l2_' + pair, overrides=taught),
    dict(name='L2 of the last stage', config=folder + 'l2_' + pair,
         overrides={**taught, l2 + 'pairs': '[backbone.layer3@preact]'}),
    dict(name='ReviewKD', config=folder + 'reviewkd_' + pair, overrides=taught),
    dict(name='MGD-AMP', config=folder + 'mgd-amp_' + pair, overrides=taught),
    dict(name='MGD-SM', config=folder + 'mgd-sm_' + pair, overrides=taught),
    dict(name='MGD-RD', config=folder + 'mgd-rd_' + pair, overrides=taught),
    dict(name='MGD and KD', label='MGD-AMP + KD', config=folder + 'mgd-amp-kd_' + pair, overrides=taught),
    dict(name='search', config=folder + 'distpro_' + pair, stage='search', overrides=taught, seeds=[0]),
    dict(name='search, other student', config=folder + 'distpro_resnet14x2-wrn-10-1_8e_cifar100-20.py', stage='search',
         overrides=taught, seeds=[0]),
    dict(name='DistPro', label='DistPro: the process', config=folder + 'distpro_' + pair, overrides=found),
    dict(name='DistPro, alpha_T', label='its last weights (alpha_T)', config=folder + 'distpro-final_' + pair,
         overrides=found),
    dict(name='DistPro, equal', label='its pathways, equal weights', config=folder + 'distpro-equal_' + pair,
         overrides=taught),
    dict(name='DistPro, own levels', label='each stage to its own, equal weights of the same sum',
         config=folder + 'distpro-equal_' + pair,
         overrides={**taught, **own_levels}),
    dict(name='DistPro, transferred', label='a process that was found for another student',
         config=folder + 'distpro-transfer_' + pair, overrides=found_elsewhere),
    dict(name='search of DFA', config=folder + 'dfa_' + pair, stage='search', overrides=taught, seeds=[0]),
    dict(name='DFA', config=folder + 'dfa_' + pair, overrides=aggregated),
    dict(name='DFA, last', label='the last block of each stage', config=folder + 'dfa-last_' + pair, overrides=taught),
    dict(name='DFA, average', label='the average of its blocks', config=folder + 'dfa-average_' + pair, overrides=taught),
    dict(name='search of the pool', config=folder + 'pool_' + pair, stage='search', overrides=taught, seeds=[0]),
    dict(name='pool', label='a pool: the process', config=folder + 'pool_' + pair, overrides=pool_found),
    dict(name='pool, last weights', label='its last weights', config=folder + 'pool_' + pair,
         overrides={**pool_found, pool + 'mode': 'final'}),
    dict(name='pool, equal', label='its members, equal weights', config=folder + 'pool_' + pair,
         overrides={**taught, pool + 'mode': 'equal'}),
    dict(name='auto', config=folder + 'auto_' + pair, overrides=taught),
    dict(name='auto, searched', label='auto, searched in the run', config=folder + 'auto_' + pair,
         overrides={**taught, auto + 'searched': 0.15}),
    dict(name='auto, online', config=folder + 'auto_' + pair, overrides={**taught, auto + 'online': True}),
]
del folder, pair, runtime, format_on, taught, pool, l2, kd, auto, distpro, pool_found, found, found_elsewhere, aggregated
del scores, standardised, stages, own_levels
