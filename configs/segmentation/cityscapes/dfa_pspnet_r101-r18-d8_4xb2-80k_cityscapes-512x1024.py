# Cityscapes: PSPNet R101-d8 -> R18-d8 (not run; builds, trains and searches a step in the tests). Groups are stages: layer3
# and layer4 have one size here.
_base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            distance='normalized',
            connector_norm='SyncBN')))
# The search: 2000 iterations for each group.
search = dict(
    split=0.7,
    hook=dict(weights_first=0.2),  # the two paths are balanced once the student is no longer untrained
    distiller=dict(gamma_st='auto'),
    config=dict(
        train_cfg=dict(max_iters=8000),
        optim_wrapper=dict(clip_grad=dict(_delete_=True, max_norm=5)),
        param_scheduler=None))  # the weights are shared by all groups: a schedule would starve the last
