# DistPro, 6 pathways: the process that distpro-search_resnet14x2-resnet8_8e_cifar100-20.py finds.
_base_ = './resnet8_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py',
        checkpoint='work_dirs/resnet14x2_24e_cifar100-20/epoch_24.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            student=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            transforms='conv1',
            scale_by_pathways=True,
            process='work_dirs/distpro-search_resnet14x2-resnet8_8e_cifar100-20/process.json')),
    image_shape=(3, 32, 32))
