# 20 classes of CIFAR-100: distillation in every iteration, in every second, and on half of each batch.
# See docs/every-and-fraction.md.
folder = 'configs/classification/cifar100-20/'
pair = 'resnet14x2-resnet8_8e_cifar100-20.py'
taught = {'model.teacher.checkpoint': '{teacher}'}
metric = 'accuracy/top1'
split = 'val'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py', seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py'),
    dict(name='MGD-AMP', config=folder + 'mgd-amp_' + pair, overrides=taught),
    dict(name='MGD-AMP, every=2', config=folder + 'mgd-amp_' + pair, overrides={**taught, 'model.distillers.mgd.every': 2}),
    dict(name='MGD-AMP, fraction=0.5', config=folder + 'mgd-amp_' + pair,
         overrides={**taught, 'model.distillers.mgd.fraction': 0.5}),
    dict(name='KD', config=folder + 'kd_' + pair, overrides=taught),
    dict(name='KD, every=2', config=folder + 'kd_' + pair, overrides={**taught, 'model.distillers.kd.every': 2}),
    dict(name='KD, fraction=0.5', config=folder + 'kd_' + pair, overrides={**taught, 'model.distillers.kd.fraction': 0.5}),
]
del folder, pair, taught
