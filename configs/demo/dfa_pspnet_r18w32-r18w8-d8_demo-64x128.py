# The demo's student, DFA (not run; builds, trains and searches a step in the tests).
_base_ = './pspnet_r18w8-d8_demo-64x128.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::demo/pspnet_r18w32-d8_demo-64x128.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            distance='normalized')))
# The search: 100 iterations for each group.
search = dict(
    split=0.7,
    # The two paths are balanced once the student is no longer untrained.
    hook=dict(optimizer=dict(type='Adam', lr=2e-2, betas=(0.5, 0.999)), weights_first=0.2),
    distiller=dict(gamma_st='auto'),
    config=dict(
        train_cfg=dict(max_iters=300),
        param_scheduler=None))
