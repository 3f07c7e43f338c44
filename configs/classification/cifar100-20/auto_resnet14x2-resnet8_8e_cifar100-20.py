# The default pool.
_base_ = './resnet8_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py', runtime='auto'),
    distillers=dict(auto=dict(type='mmkd.AutoDistiller')),
    image_shape=(3, 32, 32))
