# How strong a pool is to be as a whole, chosen on a fifth of the training images of 20 classes of CIFAR-100:
# python benchmarks/hold_out.py data/cifar100_20/train data/cifar100_20_tuning
# The teacher is that of pool_cifar100-20.py; it has seen these images, the students have not.
folder = 'configs/classification/cifar100-20/'
pair = 'resnet14x2-resnet8_8e_cifar100-20.py'
images = 'data/cifar100_20_tuning/'
data = {'default_hooks.format.mode': 'on', 'train_dataloader.dataset.data_root': images + 'train',
        'val_dataloader.dataset.data_root': images + 'val'}
taught = {**data, **{'model.teacher.runtime.' + key: True for key in ('_delete_', 'fold_bn', 'channels_last')},
          'model.teacher.checkpoint': 'work_dirs/accuracy/pool_cifar100-20/teacher-seed0/epoch_24.pth'}
pool = 'model.distillers.pool.'
equal = {**taught, pool + 'mode': 'equal'}
metric = 'accuracy/top1'
split = 'val'
seeds = [0]
rows = [
    dict(name='student alone', config=folder + 'resnet8_8e_cifar100-20.py', overrides=data),
    dict(name='MGD alone', config=folder + 'mgd-amp_' + pair, overrides=taught),
    dict(name='MGD and KD, by hand', config=folder + 'mgd-amp-kd_' + pair, overrides=taught),
    *(dict(name=f'equal weights, total {total}', config=folder + 'pool_' + pair, overrides={**equal, pool + 'total': total})
      for total in (1.0, 4.0, 16.0, 48.0)),
]
del folder, pair, images, data, taught, pool, equal
