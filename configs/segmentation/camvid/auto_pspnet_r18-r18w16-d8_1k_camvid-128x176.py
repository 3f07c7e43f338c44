# CamVid: the default pool.
_base_ = './pspnet_r18w16-d8_1k_camvid-128x176.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::segmentation/camvid/pspnet_r18-d8_1k_camvid-128x176.py'),
    distillers=dict(auto=dict(type='mmkd.AutoDistiller')))
