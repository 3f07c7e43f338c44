# CIFAR-100 in the DFA authors' framework: 200 epochs, the rate divided by 5 three times.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True))
param_scheduler = dict(type='MultiStepLR', milestones=[60, 120, 160], gamma=0.2, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
val_cfg = dict()
test_cfg = dict()
