# DFA with a teacher of four blocks in each stage: what is found with and without the other path, and what it is worth.
folder = 'configs/classification/cifar100-20/'
distil = folder + 'dfa_resnet26-resnet8_8e_cifar100-20.py'
search = dict(config=distil, stage='search', seeds=[0])
taught = {'model.teacher.checkpoint': '{teacher}'}
key = 'model.distillers.dfa.'
metric = 'accuracy/top1'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet26_24e_cifar100-20.py', seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py'),
    dict(search, name='search', overrides=taught),
    dict(search, name='search without TS', overrides={**taught, key + 'gamma_st': 1.0, key + 'gamma_ts': 0.0}),
    dict(search, name='search at 1', overrides={**taught, key + 'gamma_st': 1.0}),
    dict(search, name='search at 0.1', overrides={**taught, key + 'gamma_st': 0.1}),
    dict(search, name='search at 0.03', overrides={**taught, key + 'gamma_st': 0.03}),
    dict(name='DFA', label="DFA, `gamma_st='auto'`", config=distil,
         overrides={**taught, key + 'aggregation': '{search:aggregation.json}'}),
    dict(name='DFA, searched at 0.1', label='DFA, `gamma_st=0.1`', config=distil,
         overrides={**taught, key + 'aggregation': '{search at 0.1:aggregation.json}'}),
    dict(name='last', label='the last block of each stage', config=distil,
         overrides={**taught, key + 'aggregation': 'last'}),
    dict(name='average', label='average of the blocks', config=distil,
         overrides={**taught, key + 'aggregation': 'average'}),
]
del folder, distil, search, taught, key
