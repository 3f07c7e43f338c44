# The process's last weights at every step.
_base_ = './distpro_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(
    distillers=dict(
        distpro=dict(mode='final', process='work_dirs/distpro_resnet14x2-resnet8_8e_cifar100-20/search/process.json')))
