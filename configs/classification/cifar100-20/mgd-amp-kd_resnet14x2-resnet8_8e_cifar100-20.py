# MGD-AMP and KD together.
_base_ = './mgd-amp_resnet14x2-resnet8_8e_cifar100-20.py'
model = dict(distillers=dict(kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], temperature=4.0)))
