# CIFAR-100: WRN-40-2 -> WRN-16-2, ReviewKD (not run; builds and trains a step in the tests). Chen et al., 2021: the taps
# of mdistiller, the weight of the authors' script, which grows over 20 epochs of 391 iterations.
_base_ = './wrn-16-2_240e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-40-2_240e_cifar100.py'),
    distillers=dict(
        review=dict(
            type='mmkd.ReviewKDDistiller',
            pairs=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'neck',
            ],
            loss_weight=5.0, warmup=7820)),
    image_shape=(3, 32, 32))
