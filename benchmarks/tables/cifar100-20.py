# 20 classes of CIFAR-100 in data/cifar100_20/{train,test}/<class>/*.png; see docs/results/classification.md.
folder = 'configs/classification/cifar100-20/'
taught = {'model.teacher.checkpoint': '{teacher}'}
metric = 'accuracy/top1'
split = 'val'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'resnet14x2_24e_cifar100-20.py', seeds=[0]),
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py'),
    dict(name='KD', config=folder + 'kd_resnet14x2-resnet8_8e_cifar100-20.py', overrides=taught),
    dict(name='feature L2', config=folder + 'l2_resnet14x2-resnet8_8e_cifar100-20.py', overrides=taught),
    dict(name='MGD-SM', config=folder + 'mgd-sm_resnet14x2-resnet8_8e_cifar100-20.py', overrides=taught),
    dict(name='MGD-RD', config=folder + 'mgd-rd_resnet14x2-resnet8_8e_cifar100-20.py', overrides=taught),
    dict(name='MGD-AMP', config=folder + 'mgd-amp_resnet14x2-resnet8_8e_cifar100-20.py', overrides=taught),
    dict(name='MGD-AMP + KD', config=folder + 'mgd-amp-kd_resnet14x2-resnet8_8e_cifar100-20.py', overrides=taught),
]
del folder, taught
