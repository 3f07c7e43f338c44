# DFA on 20 classes of CIFAR-100: the search, then the student with what it found and the ablations.
# See docs/results/classification.md.
folder = 'configs/classification/cifar100-20/'
pair = 'resnet14x2-resnet8_8e_cifar100-20.py'
taught = {'model.teacher.checkpoint': '{teacher}'}
metric = 'accuracy/top1'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py', seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py'),
    dict(name='KD', config=folder + 'kd_' + pair, overrides=taught),
    dict(name='search', config=folder + 'dfa_' + pair, stage='search', overrides=taught, seeds=[0]),
    dict(name='DFA', config=folder + 'dfa_' + pair,
         overrides={**taught, 'model.distillers.dfa.aggregation': '{search:aggregation.json}'}),
    dict(name='last', label='the last block of each stage (conventional feature distillation)',
         config=folder + 'dfa-last_' + pair, overrides=taught),
    dict(name='average', label='average of the blocks', config=folder + 'dfa-average_' + pair, overrides=taught),
    dict(name='random', label='random weights', config=folder + 'dfa-random_' + pair,
         overrides={**taught, 'model.distillers.dfa.seed': '{seed}'}),
]
del folder, pair, taught
