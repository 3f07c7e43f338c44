# Plain feature distillation: 1x1 adapters and the mean squared distance.
_base_ = './resnet8_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py', runtime='auto'),
    distillers=dict(
        l2=dict(
            type='mmkd.FeatureDistiller',
            pairs=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            loss_scale='auto')),
    image_shape=(3, 32, 32))
