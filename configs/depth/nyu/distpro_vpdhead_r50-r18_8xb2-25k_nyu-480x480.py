# NYUv2 depth: ResNet-50 -> ResNet-18, the process that distpro-search_vpdhead_r50-r18_8xb2-5k_nyu-480x480.py finds.
_base_ = './vpdhead_r18_8xb2-25k_nyu-480x480.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmkd_plugin::depth/nyu/vpdhead_r50_8xb2-25k_nyu-480x480.py',
        checkpoint='work_dirs/vpdhead_r50_8xb2-25k_nyu-480x480/iter_25000.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            student=[
                'backbone.layer1@preact',
                'backbone.layer2@preact',
                'backbone.layer3@preact',
                'backbone.layer4@preact',
            ],
            process='work_dirs/distpro-search_vpdhead_r50-r18_8xb2-5k_nyu-480x480/process.json')))
