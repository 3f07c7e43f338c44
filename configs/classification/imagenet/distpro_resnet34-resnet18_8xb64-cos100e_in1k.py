# ImageNet: ResNet-34 -> ResNet-18 (not run; builds, trains and searches a step in the tests). 15 pathways in the paper's
# recipe, the process searched over 20 epochs of Tiny-ImageNet; its images are enlarged to 224, the size the teacher knows,
# of which the paper does not speak.
_base_ = './resnet18_8xb64-cos100e_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::resnet/resnet34_8xb32_in1k.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=[
                'backbone.bn1',
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ])))
search = dict(
    hook=dict(lr=0.05),  # the paper's, which the default would lower: the search is shorter than on CIFAR-100
    config=dict(
        train_dataloader=dict(
            dataset=dict(
                _delete_=True,
                type='CustomDataset',
                data_root='data/tiny-imagenet-200/train',
                pipeline={{_base_.train_dataloader.dataset.pipeline}})),
        train_cfg=dict(max_epochs=20),
        param_scheduler=dict(T_max=20)))
