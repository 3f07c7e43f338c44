# RetinaNet R18 -> a quarter of its width; PKD on the levels of the pyramid, behind 1x1 adapters.
_base_ = './retinanet_r18w16_fpn_600_bccd.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::detection/bccd/retinanet_r18_fpn_600_bccd.py'),
    distillers=dict(
        pkd=dict(
            type='mmkd.FeatureDistiller',
            pairs=[f'neck[{level}]' for level in range(4)],
            loss='pkd',
            loss_scale='auto')))
