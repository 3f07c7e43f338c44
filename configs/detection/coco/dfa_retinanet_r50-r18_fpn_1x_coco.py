# COCO: RetinaNet R50 -> R18 (not run; builds, trains and searches a step in the tests). The first stage is frozen, and the
# pyramid begins at layer2.
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            distance='normalized')))
# In the search, pyramid levels below the injection are the student's own, detached.
search = dict(
    split=0.7,
    # The two paths are balanced once the student is no longer untrained.
    hook=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.5, 0.999)), weights_first=0.2),
    distiller=dict(gamma_st='auto'),
    config=dict(
        train_cfg=dict(max_epochs=2),
        optim_wrapper=dict(clip_grad=dict(max_norm=5)),
        param_scheduler=None))  # the weights are shared by all groups: a schedule would starve the last
