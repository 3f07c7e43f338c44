# CIFAR-100: WRN-40-2 -> WRN-16-2 (not run; builds, trains and searches a step in the tests). The ten pathways, the one
# transform and the strength (times P) of the authors' release, searched as in the paper; the paper's 27: distpro-27_...
_base_ = './wrn-16-2_240e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-40-2_240e_cifar100.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                'backbone.norm1@preact',
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
            ],
            scale_by_pathways=True)),
    image_shape=(3, 32, 32))
search = dict(config=dict(train_cfg=dict(max_epochs=40), param_scheduler=dict(milestones=[10, 20, 30])))
