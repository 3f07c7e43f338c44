# The authors' schedule on CUB-200: 120 epochs at a total batch of 64, no warm-up, drops when epochs 31, 61 and 81 start.
_base_ = 'mmpretrain::_base_/schedules/cub_bs64.py'
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
param_scheduler = dict(_delete_=True, type='MultiStepLR', by_epoch=True, milestones=[31, 61, 81], gamma=0.1)
train_cfg = dict(max_epochs=120)
