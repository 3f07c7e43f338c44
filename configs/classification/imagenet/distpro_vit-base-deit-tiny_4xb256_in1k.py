# ImageNet: ViT-B -> DeiT-tiny, every third block (not run; builds, trains and searches a step in the tests).
# 10 pathways, DeiT's own recipe, searched on ImageNet; the paper's block for transformers is another.
_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py'),
    distillers=dict(
        distpro=dict(
            type='mmkd.DistProDistiller',
            levels=['backbone.layers.2', 'backbone.layers.5', 'backbone.layers.8', 'backbone.layers.11'],
            transforms='token3')),
    image_shape=(3, 224, 224))
search = dict(
    config=dict(
        train_cfg=dict(max_epochs=20),
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=2, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=20, convert_to_iter_based=True)
        ]))
