# WRN-28-4 -> WRN-16-4, KD (not run; builds and trains a step in the tests). Hinton et al., 2015, with T and weight of the
# DFA authors' framework, whose cross entropy counts 0.8: --cfg-options model.student.head.loss.loss_weight=0.8.
# RepDistiller's: 0.1 there, and model.distillers.kd.loss_weight=0.9.
_base_ = './wrn-16-4_200e_cifar100.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cifar100/wrn-28-4_200e_cifar100.py'),
    distillers=dict(
        kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], temperature=4.0, loss_weight=0.2)),
    image_shape=(3, 32, 32))
