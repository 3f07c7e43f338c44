# CINIC-10 in the DFA authors' framework: 140 epochs, the rate divided by 10 twice.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True))
param_scheduler = dict(type='MultiStepLR', milestones=[100, 120], gamma=0.1, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=140, val_interval=10)
val_cfg = dict()
test_cfg = dict()
