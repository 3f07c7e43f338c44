# A process over MGD, KD, DIST, L2 and 6 pathways.
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
            reduction='mean'),
        kd=dict(
            type='mmkd.LogitsDistiller',
            pairs=['head.fc'],
            loss=dict(type='mmkd.KLLoss', temperature=2.0, standardise=True)),
        dist=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss='dist'),
        l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3@preact']),
        pool=dict(
            type='mmkd.DistProDistiller',
            members=['mgd', 'kd', 'dist', 'l2'],
            levels=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            transforms='conv1',
            scale_iters=100,
            total=16.0)),  # chosen on held-out training images: docs/pool.md
    image_shape=(3, 32, 32))
custom_hooks = [dict(type='mmkd.MatchingUpdateHook', interval=2, num_images=1000)]
search = dict()  # for as long, on 80 % of the training set, validated on the rest
