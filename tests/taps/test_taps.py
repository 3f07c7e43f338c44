"""Tap addresses, on real blocks and networks."""
import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from torch import nn
from zoo import batch, build, classifier, distilled, mgd, pspnet, retinanet

from mmkd_plugin.taps import FeatureTaps, TapAddress
from mmkd_plugin.taps.recording import FeatureSum
from mmkd_plugin.taps.shapes import tokens_to_map
from mmkd_plugin.utils.errors import DistillationError


@pytest.mark.parametrize(('text', 'expected'), [
    ('backbone.layer3', ('backbone.layer3', None, 'out')), ('neck[0]', ('neck', 0, 'out')),
    ('neck[-1]', ('neck', -1, 'out')), ('backbone.layer4.-1@preact', ('backbone.layer4.-1', None, 'preact')),
    ('decode_head.conv_seg@in', ('decode_head.conv_seg', None, 'in')), ('a.b[2]@in', ('a.b', 2, 'in'))])
def test_addresses_are_parsed(text, expected):
    address = TapAddress.parse(text)
    assert (address.path, address.index, address.port) == expected


@pytest.mark.parametrize('text', ['', 'neck[a]', 'neck[0', 'a b', '@preact', 'neck[0][1]', 3])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(DistillationError, match='is not the address of a tap'):
        TapAddress.parse(text)


def settled(model, addresses, image):
    taps = FeatureTaps(model, 'student', addresses)
    with torch.no_grad():
        model.eval()
        taps.settle(lambda: model(image), image)
    return taps


@pytest.mark.parametrize('block', [dict(type='mmdet.ResNet', depth=18), dict(type='mmdet.ResNet', depth=50)],
                         ids=['BasicBlock', 'Bottleneck'])
@pytest.mark.parametrize('training', [True, False])
def test_preact_is_the_true_pre_activation_of_a_residual_block(block, training):
    backbone = MODELS.build(dict(block, base_channels=8, stem_channels=8))
    image = torch.randn(2, 3, 64, 64)
    taps = settled(backbone, ['layer3@preact', 'layer3', 'layer3.-1'], image)
    backbone.train(training)
    with taps.record() as recording:
        backbone(image)
    features = recording.features(image)
    pre, post = features['layer3@preact'], features['layer3']
    assert pre.min() < 0
    torch.testing.assert_close(pre.relu(), post, rtol=0, atol=0)
    torch.testing.assert_close(features['layer3.-1'], post, rtol=0, atol=0)
    # By hand, from the block's own parts: the last norm plus the identity.
    block = backbone.layer3[-1]
    assert block.relu.inplace
    with taps.record(['layer3@preact']) as recording:
        norms = []
        last = block.norm3 if hasattr(block, 'conv3') else block.norm2
        handle = last.register_forward_hook(lambda module, args, output: norms.append(output.clone()))
        inputs = []
        into = block.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
        backbone(image)
        handle.remove()
        into.remove()
    torch.testing.assert_close(recording.features(image)['layer3@preact'], norms[0] + inputs[0], rtol=0, atol=0)


def test_preact_is_the_true_pre_activation_of_a_conv_module():
    module = nn.Sequential(ConvModule(3, 8, 3, padding=1, norm_cfg=dict(type='BN')), nn.Conv2d(8, 8, 1))
    image = torch.randn(2, 3, 16, 16)
    taps = settled(module, ['0@preact', '0'], image)
    module.train()
    with taps.record() as recording:
        module(image)
    features = recording.features(image)
    assert module[0].activate.inplace
    assert features['0@preact'].min() < 0
    torch.testing.assert_close(features['0@preact'].relu(), features['0'], rtol=0, atol=0)
    torch.testing.assert_close(features['0@preact'], module[0].bn(module[0].conv(image)))
    assert taps.info['0@preact'].norm is module[0].bn


def test_an_output_that_is_added_to_in_place_is_kept_as_it_was():
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=18, base_channels=8, stem_channels=8))
    image = torch.randn(2, 3, 64, 64)
    taps = settled(backbone, ['layer4.-1.bn2'], image)
    copies = []
    handle = backbone.layer4[-1].bn2.register_forward_hook(lambda module, args, output: copies.append(output.clone()))
    with taps.record() as recording:
        backbone(image)
    handle.remove()
    assert torch.equal(recording.features(image)['layer4.-1.bn2'], copies[0])


def test_margins_come_from_the_blocks_own_norm_not_from_the_shortcut():
    # With one block a stage, the shortcut's norm is the last one to run.
    backbone = MODELS.build(dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8))
    taps = settled(backbone, ['layer2.0@preact', 'layer2@preact'], torch.randn(1, 3, 32, 32))
    assert taps.info['layer2.0@preact'].norm is backbone.layer2[0].bn2
    assert taps.info['layer2@preact'].norm is backbone.layer2[-1].bn2


def test_squeeze_and_excitation_is_not_the_blocks_activation():
    backbone = MODELS.build(dict(type='mmpretrain.MobileNetV3', arch='small', out_indices=(11,)))
    taps = settled(backbone, ['layer11@preact'], torch.randn(1, 3, 64, 64))
    assert taps.info['layer11@preact'].size == (2, 2)


def test_preact_of_an_inverted_residual_is_its_depthwise_output_before_the_clipping():
    backbone = MODELS.build(dict(type='mmpretrain.MobileNetV2'))
    image = torch.randn(2, 3, 64, 64)
    taps = settled(backbone, ['layer4.0@preact'], image)
    depthwise = backbone.layer4[0].conv[1]
    inputs = []
    into = depthwise.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    with taps.record() as recording:
        backbone(image)
    into.remove()
    feature = recording.features(image)['layer4.0@preact']
    assert depthwise.conv.groups == feature.shape[1] == 192
    torch.testing.assert_close(feature, depthwise.bn(depthwise.conv(inputs[0])), rtol=0, atol=0)
    assert feature.min() < 0
    assert taps.info['layer4.0@preact'].norm is depthwise.bn


def test_preact_of_shuffled_branches_is_one_branch_and_the_output_is_all():
    backbone = MODELS.build(dict(type='mmpretrain.ShuffleNetV2'))
    taps = settled(backbone, ['layers.0@preact', 'layers.0'], torch.randn(1, 3, 64, 64))
    assert taps.info['layers.0@preact'].channels == 58
    assert taps.info['layers.0@preact'].norm is backbone.layers[0][-1].branch2[-1].bn
    assert (taps.info['layers.0'].channels, taps.info['layers.0'].norm) == (116, None)


def test_an_activation_on_channels_last_features_is_turned():
    backbone = MODELS.build(dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 8, 12, 16])))
    taps = settled(backbone, ['stages.2@preact'], torch.randn(1, 3, 64, 128))
    info = taps.info['stages.2@preact']
    assert (info.channels, info.size) == (48, (4, 8))


def test_an_activation_shared_with_modules_outside_is_counted_inside_only():
    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), relu, nn.Sequential(nn.Conv2d(4, 4, 1), relu), nn.Conv2d(4, 4, 1), relu)
    image = torch.randn(1, 3, 8, 8)
    taps = settled(model, ['2@preact', '2'], image)
    with taps.record() as recording:
        model(image)
    features = recording.features(image)
    assert torch.equal(features['2@preact'].relu(), features['2'])


def test_the_forward_ends_at_the_deepest_tap():
    model = build(pspnet())
    image = torch.randn(2, 3, 64, 64)
    taps = settled(model, ['backbone.layer2'], image)
    reached = []
    handles = [module.register_forward_hook(lambda module, args, output: reached.append(module))
               for module in (model.backbone.layer2, model.backbone.layer3)]
    with taps.record(stop_when_complete=True):
        model(image)
    for handle in handles:
        handle.remove()
    assert reached == [model.backbone.layer2]


@pytest.mark.parametrize(('length', 'size', 'extra', 'grid'), [
    (196, (224, 224), 0, (14, 14)), (197, (224, 224), 1, (14, 14)), (198, (224, 224), 2, (14, 14)),
    (8, (64, 128), 0, (2, 4)), (50, (224, 224), 1, (7, 7)), (35, (100, 140), 0, (5, 7)),
    (30, (70, 70), 5, (5, 5)), (29, (70, 70), 4, (5, 5))])
def test_tokens_become_maps(length, size, extra, grid):
    tokens = torch.randn(2, length, 6)
    feature = tokens_to_map(tokens, size)
    assert feature.shape == (2, 6, *grid)
    assert torch.equal(feature[:, :, 0, 1], tokens[:, extra + 1])
    assert torch.equal(feature[:, :, -1, -1], tokens[:, -1])


def test_tokens_without_a_grid_are_refused():
    with pytest.raises(DistillationError, match='110 tokens are not the grid of a 224x224 image'):
        tokens_to_map(torch.randn(1, 110, 4), (224, 224))


VIT = dict(type='ImageClassifier', _scope_='mmpretrain', neck=None,
           backbone=dict(type='VisionTransformer', img_size=64, patch_size=16, arch=dict(
               embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=24)),
           head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=12))
SWIN = dict(type='ImageClassifier', _scope_='mmpretrain', neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=96),
            backbone=dict(type='SwinTransformer', img_size=64, pad_small_map=True, arch=dict(
                embed_dims=12, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 2])))


@pytest.mark.parametrize(('cfg', 'tap', 'channels', 'size'), [
    (VIT, 'backbone.layers.-1', 12, (4, 4)), (VIT, 'backbone.layers.0@preact', 24, (4, 4)),
    (SWIN, 'backbone.stages.3', 96, (2, 2)), (SWIN, 'backbone.stages.1', 24, (8, 8))],
                         ids=['ViT', 'ViT-preact', 'Swin', 'Swin1'])
def test_a_transformer_teacher_can_be_tapped(cfg, tap, channels, size):
    model = build(distilled(classifier(), cfg, l2=dict(type='mmkd.FeatureDistiller', pairs=[('backbone.layer4', tap)])))
    feature = model.distillation.teacher.features(torch.randn(2, 3, 64, 64))[tap]
    assert feature.shape == (2, channels, *size)
    losses = model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')
    assert losses['l2.loss_layer4'] > 0


def test_items_of_lists_inputs_and_logits_can_be_tapped():
    model = build(retinanet())
    image = torch.randn(1, 3, 64, 64)
    taps = settled(model, ['neck[0]', 'neck[-1]', 'neck.fpn_convs.0.conv@in'], image)
    outputs = model.neck(model.backbone(image))
    with taps.record() as recording:
        model(image)
    features = recording.features(image)
    assert torch.equal(features['neck[0]'], outputs[0])
    assert torch.equal(features['neck[-1]'], outputs[-1])
    assert features['neck.fpn_convs.0.conv@in'].shape[1] == 16


def test_activation_checkpointing_inside_a_tap_is_handled():
    cfg = distilled(pspnet(), None, l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4']))
    cfg['student']['backbone']['with_cp'] = True
    model = build(cfg)
    losses = model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')
    losses['l2.loss_layer4'].backward()
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0


def test_a_frozen_tap_is_refused_by_name():
    cfg = distilled(pspnet(), None, mgd=mgd('backbone.layer1@preact', norm=None))
    cfg['student']['backbone']['frozen_stages'] = 1
    model = build(cfg).train()
    with pytest.raises(DistillationError, match=r"tap 'backbone.layer1@preact' of the student carries no gradient"):
        model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')


def test_a_tap_whose_items_are_not_the_images_is_refused_by_name():
    class Regions(nn.Module):
        """As a region head: several items per image."""

        def forward(self, feature):
            return feature.repeat(3, 1, 1, 1)

    with pytest.raises(DistillationError, match=r"tap '1' of the student has 3 items for 1 images"):
        settled(nn.Sequential(nn.Conv2d(3, 4, 1), Regions()), ['1'], torch.randn(1, 3, 8, 8))


def test_end_is_before_the_activation_that_closes_a_block_and_the_output_where_none_does():
    image = torch.randn(2, 3, 64, 64)
    for cfg, block, closes in ((dict(type='mmdet.ResNet', depth=50, base_channels=8), 'layer2.0', True),
                               (dict(type='mmdet.ResNet', depth=18, base_channels=8), 'layer2', True),
                               (dict(type='mmkd.WideResNet', depth=16, widen_factor=1), 'layer2.blocks.0', False),
                               (dict(type='mmpretrain.MobileNetV2', widen_factor=.25), 'layer3.1', False),
                               (dict(type='mmpretrain.ShuffleNetV2', widen_factor=.5), 'layers.1.0', False)):
        backbone = MODELS.build(cfg)
        taps = settled(backbone, [f'{block}@end', block], image)
        with torch.no_grad(), taps.record() as recording:
            backbone(image)
        end, output = recording.features(image).values()
        assert torch.equal(end.relu() if closes else end, output), cfg
        assert not closes or end.min() < 0


@pytest.mark.parametrize('port', ['', '@end', '@preact'])
def test_a_feature_can_be_replaced_on_its_way(port):
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=18, base_channels=8, stem_channels=8))
    image = torch.randn(2, 3, 64, 64)
    taps = settled(backbone, [f'layer2{port}'], image)
    other = torch.randn(2, 16, 8, 8)
    with torch.no_grad(), taps.record(replace={f'layer2{port}': lambda feature: other}) as recording:
        outputs = backbone(image)
    entering = other.relu() if port else other
    with torch.no_grad():
        expected = backbone.layer4(backbone.layer3(entering))
    assert torch.equal(outputs[1], entering)
    assert torch.equal(outputs[3], expected)
    assert not torch.equal(recording.features(image)[f'layer2{port}'], other), 'what is recorded is the model\'s own'


def test_sums_are_those_of_the_features_and_keep_none_of_them():
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=34, base_channels=8, stem_channels=8))
    image = torch.randn(2, 3, 64, 64)
    addresses = [f'layer2.{block}@end' for block in range(4)]
    taps = settled(backbone, addresses, image)
    total = FeatureSum('group', dict(zip(addresses, [.125, 0, .375, .5])))
    with torch.no_grad(), taps.record() as all_of_them:
        backbone(image)
    with torch.no_grad(), taps.record([], sums=[total], stop_when_complete=True) as recording:
        backbone(image)
    features = all_of_them.features(image)
    expected = sum(features[address] * weight for address, weight in total.weights.items())
    assert list(recording.features(image)) == ['group']
    torch.testing.assert_close(recording.features(image)['group'], expected, rtol=1e-6, atol=1e-6)
    assert total.addresses == [addresses[0], addresses[2], addresses[3]]


def test_features_of_several_shapes_are_not_summed():
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=18, base_channels=8, stem_channels=8))
    image = torch.randn(2, 3, 64, 64)
    taps = settled(backbone, ['layer1@end', 'layer2@end'], image)
    with torch.no_grad(), pytest.raises(DistillationError, match='only features of one shape can be summed'), \
            taps.record([], sums=[FeatureSum('group', {'layer1@end': .5, 'layer2@end': .5})]):
        backbone(image)
