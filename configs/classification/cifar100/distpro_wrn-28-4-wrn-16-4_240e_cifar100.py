# CIFAR-100: WRN-28-4 -> WRN-16-4 (not run; builds, trains and searches a step in the tests). For DistPro's table 7, its
# normalisations: --cfg-options model.distillers.distpro.normalisation=softmax (or another), of the search and the training.
_base_ = './wrn-16-4_240e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-28-4_240e_cifar100.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                'backbone.norm1@preact',
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
            ])),
    image_shape=(3, 32, 32))
search = dict(config=dict(train_cfg=dict(max_epochs=40), param_scheduler=dict(milestones=[10, 20, 30])))
