# ImageNet: ResNet-34 -> ResNet-18 (not run; builds and trains a step in the tests). With the process that was searched on
# CIFAR-100 for ResNet56 -> ResNet20: its ten pathways between four levels, here the four stages. As in the paper's table 3,
# whose networks are others.
_base_ = './distpro_resnet34-resnet18_8xb64-cos100e_in1k.py'
stages = {
    'backbone.bn1': 'backbone.layer1@preact',
    'backbone.layer1@preact': 'backbone.layer2@preact',
    'backbone.layer2@preact': 'backbone.layer3@preact',
    'backbone.layer3@preact': 'backbone.layer4@preact',
}
model = dict(
    distillers=dict(
        distpro=dict(
            levels=list(stages.values()),
            process='work_dirs/distpro_resnet56-resnet20_240e_cifar100/search/process.json',
            pathway_map=dict(teacher=stages, student=stages))))
