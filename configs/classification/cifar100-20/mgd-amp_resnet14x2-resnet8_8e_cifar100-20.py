# MGD with absolute max pooling at the three stages; twice as many channels in the teacher (g = 2).
_base_ = './resnet8_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py', runtime='auto'),
    distillers=dict(
        mgd=dict(
            type='mmkd.MatchingGuidedDistiller',
            pairs=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            reduction='mean',
            loss_scale='auto')),
    image_shape=(3, 32, 32))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=1000)]
