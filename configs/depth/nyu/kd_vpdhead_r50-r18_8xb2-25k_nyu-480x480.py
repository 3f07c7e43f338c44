# NYUv2 depth: ResNet-50 -> ResNet-18, plain KD (not run; builds and trains a step in the tests). The teacher's output as
# ground truth: the mean absolute difference of the two predictions, before the sigmoid that makes them depths.
_base_ = './vpdhead_r18_8xb2-25k_nyu-480x480.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::depth/nyu/vpdhead_r50_8xb2-25k_nyu-480x480.py'),
    distillers=dict(
        kd=dict(type='mmkd.FeatureDistiller', pairs=['decode_head.depth_pred_layer'], loss='l1', adapter=None)))
