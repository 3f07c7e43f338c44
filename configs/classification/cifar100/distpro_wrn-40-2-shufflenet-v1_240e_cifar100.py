# CIFAR-100: WRN-40-2 -> ShuffleNetV1, the process that distpro-search_wrn-40-2-shufflenet-v1_40e_cifar100.py finds.
_base_ = './shufflenet-v1_240e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::classification/cifar100/wrn-40-2_240e_cifar100.py',
        checkpoint='work_dirs/wrn-40-2_240e_cifar100/epoch_240.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=['backbone.norm1@preact', 'backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            student=['backbone.norm1@preact', 'backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            process='work_dirs/distpro-search_wrn-40-2-shufflenet-v1_40e_cifar100/process.json')),
    image_shape=(3, 32, 32))
