# NYUv2 depth: ResNet-50 -> ResNet-18, ReviewKD (not run; builds and trains a step in the tests). At the taps of DistPro's
# config; the weight in its table is not published.
_base_ = './vpdhead_r18_8xb2-25k_nyu-480x480.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmkd_plugin::depth/nyu/vpdhead_r50_8xb2-25k_nyu-480x480.py'),
    distillers=dict(
        review=dict(
            type='mmkd.ReviewKDDistiller',
            pairs=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            loss_weight=1.0)))
