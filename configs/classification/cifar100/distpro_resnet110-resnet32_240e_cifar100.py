# CIFAR-100: ResNet110 -> ResNet32, the process that distpro-search_resnet110-resnet32_40e_cifar100.py finds.
_base_ = './resnet32_240e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::classification/cifar100/resnet110_240e_cifar100.py',
        checkpoint='work_dirs/resnet110_240e_cifar100/epoch_240.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=['backbone.bn1', 'backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            student=['backbone.bn1', 'backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            process='work_dirs/distpro-search_resnet110-resnet32_40e_cifar100/process.json')),
    image_shape=(3, 32, 32))
