# ReviewKD (Chen et al., 2021) between the three stages and the pooled feature, as strong as the task.
_base_ = './resnet8_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py', runtime='auto'),
    distillers=dict(
        review=dict(
            type='mmkd.ReviewKDDistiller',
            pairs=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'neck',
            ],
            loss_scale='auto')),
    image_shape=(3, 32, 32))
