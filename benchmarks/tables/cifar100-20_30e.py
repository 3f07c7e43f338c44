# 20 classes of CIFAR-100, ResNet14x2 -> ResNet8, 30 epochs: what still helps a student that is trained for longer.
# The rows of cifar100-20_8e.py that decide, its search among them; see docs/results/classification.md.
_base_ = './cifar100-20_8e.py'
as_there = ('teacher', 'search')
longer = ('student alone', 'KD, standardised', 'ReviewKD', 'MGD-AMP', 'MGD and KD', 'DistPro', 'DistPro, alpha_T',
          'DistPro, equal', 'DistPro, own levels', 'auto')
epochs = {'train_cfg.max_epochs': 30, 'train_cfg.val_interval': 5, 'default_hooks.checkpoint.interval': 5,
          'default_hooks.checkpoint.max_keep_ckpts': 1, 'param_scheduler.1.T_max': 30}
rows = []
for row in _base_.rows:
    if row['name'] in as_there:
        rows.append(dict(row))
    elif row['name'] in longer:
        rows.append(dict(row, overrides={**row['overrides'], **epochs}))
del as_there, longer, epochs, row
