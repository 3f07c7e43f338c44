# DistPro on 20 classes of CIFAR-100: searches, then the student with the found process and without.
# See docs/results/classification.md.
folder = 'configs/classification/cifar100-20/'
pair = 'resnet14x2-resnet8_8e_cifar100-20.py'
taught = {'model.teacher.checkpoint': '{teacher}'}
process = 'model.distillers.distpro.process'
found = {**taught, process: '{search:process.json}'}
metric = 'accuracy/top1'
split = 'val'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py', seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py'),
    dict(name='KD', config=folder + 'kd_' + pair, overrides=taught),
    dict(name='search', config=folder + 'distpro_' + pair, stage='search', overrides=taught, seeds=[0]),
    dict(name='search, other student', config=folder + 'distpro_resnet14x2-wrn-10-1_8e_cifar100-20.py',
         stage='search', overrides=taught, seeds=[0]),
    dict(name='DistPro', label='DistPro: the process', config=folder + 'distpro_' + pair, overrides=found),
    dict(name='equal weights', label='its pathways, equal weights', config=folder + 'distpro-equal_' + pair,
         overrides=taught),
    dict(name='last weights', label='its last weights at every step (alpha_T)', config=folder + 'distpro-final_' + pair,
         overrides=found),
    dict(name='DistPro, transferred', label='a process that was found for another student (transfer)',
         config=folder + 'distpro-transfer_' + pair,
         overrides={**taught, process: '{search, other student:process.json}'}),
]
del folder, pair, taught, process, found
