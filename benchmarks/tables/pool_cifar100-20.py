# A process over a pool of losses on 20 classes of CIFAR-100, beside what it is made of; see docs/pool.md. Its teacher was
# trained for it; cifar100-20_8e.py has the one that is shipped, and more rows.
folder = 'configs/classification/cifar100-20/'
pair = 'resnet14x2-resnet8_8e_cifar100-20.py'
# Neither the teacher's variant nor the student's format is chosen by time: a cell is a function of its seed.
runtime = {'model.teacher.runtime.' + key: True for key in ('_delete_', 'fold_bn', 'channels_last')}
format_on = {'default_hooks.format.mode': 'on'}
taught = {**runtime, **format_on, 'model.teacher.checkpoint': '{teacher}'}
pool, kd = 'model.distillers.pool.', 'model.distillers.kd.'
found = {**taught, pool + 'process': '{search:process.json}'}
alone = {**taught, kd + 'loss_scale': 'auto', kd + 'temperature': 'None'}
metric = 'accuracy/top1'
split = 'val'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py', overrides=format_on, seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py', overrides=format_on),
    dict(name='search', config=folder + 'pool_' + pair, stage='search', overrides=taught, seeds=[0]),
    dict(name='process', config=folder + 'pool_' + pair, overrides=found),
    dict(name='last weights', config=folder + 'pool_' + pair, overrides={**found, pool + 'mode': 'final'}),
    dict(name='equal weights', config=folder + 'pool_' + pair, overrides={**taught, pool + 'mode': 'equal'}),
    dict(name='auto, searched in the run', config=folder + 'auto_' + pair, overrides={
        **taught, 'model.distillers.auto.searched': 0.15}),
    dict(name='MGD alone', config=folder + 'mgd-amp_' + pair, overrides=taught),
    dict(name='KD alone, standardised', config=folder + 'kd_' + pair, overrides={
        **alone, kd + 'loss.type': 'kl', kd + 'loss.temperature': 2.0, kd + 'loss.standardise': True}),
    dict(name='DIST alone', config=folder + 'kd_' + pair, overrides={**alone, kd + 'loss.type': 'dist'}),
]
del folder, pair, runtime, format_on, taught, pool, kd, found, alone
