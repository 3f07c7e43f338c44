# The process that was found for another student.
_base_ = './distpro_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(
    distillers=dict(distpro=dict(process='work_dirs/distpro_resnet14x2-wrn-10-1_8e_cifar100-20/search/process.json')))
