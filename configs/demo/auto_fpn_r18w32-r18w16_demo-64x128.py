# The demo's student, distilled by the default pool.
_base_ = './fpn_r18w16_demo-64x128.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::demo/fpn_r18w32_demo-64x128.py'),
    distillers=dict(auto=dict(type='mmkd.AutoDistiller')))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=200)]
