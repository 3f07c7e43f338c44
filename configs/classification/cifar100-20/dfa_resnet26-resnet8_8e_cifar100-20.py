# ResNet26 -> ResNet8 with the aggregations that the search has found: four blocks of the teacher for each stage.
_base_ = './dfa_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(teacher=dict(config='mmkd_plugin::classification/cifar100-20/resnet26_24e_cifar100-20.py'))
search = dict(hook=dict(optimizer=dict(lr=2e-2)), distiller=dict(gamma_st='auto'))
