# CIFAR-100: ResNet56 -> ResNet20 (not run; builds and trains a step in the tests). The paper's 27 pathways: every teacher
# level to every student level, by three transforms each, weighted as in its equation 2.
_base_ = './distpro_resnet56-resnet20_240e_cifar100.py'
model = dict(
    distillers=dict(
        distpro=dict(
            levels=['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact'],
            connections='all',
            transforms=['conv1', 'conv2', 'conv3'],
            scale_by_pathways=False)))
