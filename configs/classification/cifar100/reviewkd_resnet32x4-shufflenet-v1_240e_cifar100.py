# CIFAR-100: ResNet32x4 -> ShuffleNetV1, ReviewKD (not run; builds and trains a step in the tests). Chen et al., 2021: the
# taps of mdistiller, the weight of the authors' script, which grows over 20 epochs of 391 iterations.
_base_ = './shufflenet-v1_240e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/resnet32x4_240e_cifar100.py'),
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
