# ImageNet: ViT-B -> DeiT-tiny, every third block; the process that distpro-search_vit-base-deit-tiny_4xb256_in1k.py finds.
_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(
        config='mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/vit/'
        'vit-base-p16_pt-32xb128-mae_in1k_20220623-4c544545.pth'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            teacher=[
                'backbone.layers.2',
                'backbone.layers.5',
                'backbone.layers.8',
                'backbone.layers.11',
            ],
            student=[
                'backbone.layers.2',
                'backbone.layers.5',
                'backbone.layers.8',
                'backbone.layers.11',
            ],
            transforms='token3',
            process='work_dirs/distpro-search_vit-base-deit-tiny_4xb256_in1k/process.json')),
    image_shape=(3, 224, 224))
