# ImageNet: ViT-B -> DeiT-tiny, ReviewKD (not run; builds and trains a step in the tests). Chen et al., 2021, on the
# tokens as maps, every third block. DistPro's paper does not say how it tapped these networks, nor the weight.
_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(
    _delete_=True,
    type='mmkd.DistilledModel',
    student={{_base_.model}},
    teacher=dict(config='mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py'),
    distillers=dict(
        review=dict(
            type='mmkd.ReviewKDDistiller',
            pairs=[
                'backbone.layers.2',
                'backbone.layers.5',
                'backbone.layers.8',
                'backbone.layers.11',
            ],
            loss_weight=1.0)),
    image_shape=(3, 224, 224))
