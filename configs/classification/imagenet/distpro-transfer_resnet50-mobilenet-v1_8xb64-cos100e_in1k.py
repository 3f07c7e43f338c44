# ImageNet: ResNet-50 -> MobileNetV1, the pair of the paper's table 3 (not run; builds and trains a step in the tests). With
# the process that was searched on CIFAR-100 for ResNet56 -> ResNet20: its ten pathways between four levels, here the four
# stages.
_base_ = './distpro_resnet50-mobilenet-v1_8xb64-cos100e_in1k.py'
searched = ['backbone.bn1', 'backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact']
students = ['backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact', 'backbone.layer5@preact']
teachers = ['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact', 'backbone.layer4@preact']
model = dict(
    distillers=dict(
        distpro=dict(
            levels=list(zip(students, teachers)),
            process='work_dirs/distpro_resnet56-resnet20_240e_cifar100/search/process.json',
            pathway_map=dict(teacher=dict(zip(searched, teachers)), student=dict(zip(searched, students))))))
