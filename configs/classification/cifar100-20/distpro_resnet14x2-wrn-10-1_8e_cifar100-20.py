# DistPro for another student, a wide ResNet-10-1 (only its search has been run, for a transfer). The taps are the same.
_base_ = './wrn-10-1_8e_cifar100-20.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py', runtime='auto'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            transforms='conv1',
            scale_by_pathways=True)),
    image_shape=(3, 32, 32))
search = dict()  # for as long, on 80 % of the training set, validated on the rest
