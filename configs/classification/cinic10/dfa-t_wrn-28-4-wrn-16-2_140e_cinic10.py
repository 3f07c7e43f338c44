# DFA-T: WRN-28-4 -> WRN-16-2 on CINIC-10 (not run; builds and trains a step in the tests), with the aggregations of the
# search of configs/classification/cifar100/dfa_wrn-28-4-wrn-16-2_200e_cifar100.py. Which pair the paper has is not known.
_base_ = './wrn-16-2_140e_cinic10.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::classification/cinic10/wrn-28-4_140e_cinic10.py'),
    distillers=dict(
        dfa=dict(
            type='mmkd.FeatureAggregationDistiller',
            pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
            aggregation='work_dirs/dfa_wrn-28-4-wrn-16-2_200e_cifar100/search/aggregation.json',
            transfer=True,  # the teacher has other weights there
            distance='sum',
            loss_weight=1e-3)),  # the scale of the authors' framework: 16.4 times that of a mean
    image_shape=(3, 32, 32))
