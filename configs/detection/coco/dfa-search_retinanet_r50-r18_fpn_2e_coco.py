# COCO: RetinaNet R50 -> R18: the search. Pyramid levels below the injection are the student's own, detached.
_base_ = './dfa_retinanet_r50-r18_fpn_1x_coco.py'
model = dict(distillers=dict(dfa=dict(mode='search', aggregation=None, distance=None, gamma_st='auto')))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.SplitDataset',
        dataset={{_base_.train_dataloader.dataset}},
        part='train',
        ratio=0.7))
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(clip_grad=dict(max_norm=5))
param_scheduler = None  # the weights are shared by all groups: a schedule would starve the last
val_cfg = val_dataloader = val_evaluator = None  # what is searched with is no student to be used
custom_hooks = [dict(type='mmkd.AggregationSearchHook', optimizer=dict(type='Adam', lr=1e-3, betas=(0.5, 0.999)))]
