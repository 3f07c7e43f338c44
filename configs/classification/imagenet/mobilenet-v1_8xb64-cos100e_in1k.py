# ImageNet: MobileNetV1 in DistPro's recipe (not run; builds and trains a step in the tests). Batch 512, lr 0.1, cosine over
# 100 epochs; fewer: --cfg-options train_cfg.max_epochs=50 param_scheduler.T_max=50.
_base_ = './mobilenet-v1_8xb32_in1k.py'
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=100, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=512)
