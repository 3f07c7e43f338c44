"""The places that are worth tapping, and which of a student and its teacher belong together."""
from dataclasses import replace

import pytest
import torch
from mmengine.registry import MODELS
from zoo import IMAGE, classifier, deeplabv3plus, pspnet, retinanet

from mmkd_plugin.taps import FeatureTaps, dry_run
from mmkd_plugin.taps.places import Place, find_places
from mmkd_plugin.taps.suggestions import addresses, stage_ends, suggest_levels, suggest_logits, suggest_pairs
from mmkd_plugin.utils.errors import DistillationError

PICTURE = torch.zeros(1, 3, *IMAGE)
MOBILENET = dict(type='ImageClassifier', _scope_='mmpretrain', backbone=dict(type='MobileNetV2', widen_factor=0.25),
                 neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=5, in_channels=1280))
SWIN = dict(type='ImageClassifier', _scope_='mmpretrain', neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=96),
            backbone=dict(type='SwinTransformer', img_size=64, window_size=2, arch=dict(
                embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2])))


def places(cfg):
    return find_places(MODELS.build(cfg), PICTURE)


def seen(cfg):
    return {place.address: (place.kind, place.channels, place.stride) for place in places(cfg)}


def test_the_places_of_a_segmentor():
    assert seen(pspnet()) == {
        'backbone.stem': ('stage', 8, 2), 'backbone.layer1': ('stage', 8, 4), 'backbone.layer2': ('stage', 16, 8),
        'backbone.layer3': ('stage', 32, 8), 'backbone.layer4': ('stage', 64, 8),
        'decode_head.conv_seg@in': ('before logits', 8, 8), 'decode_head.conv_seg': ('logits', 5, 8)}


def test_the_places_of_a_detector_whose_head_is_shared_by_its_levels():
    found = seen(retinanet())
    assert [address for address in found if 'head' in address] == []
    assert {address: entry for address, entry in found.items() if address.startswith('neck')} == {
        f'neck[{level}]': ('neck', 16, 8 * 2 ** level) for level in range(4)} | {'neck[4]': ('neck', 16, 64)}


def test_scores_of_which_each_level_has_its_own_are_no_logits():
    cfg = dict(
        type='RTMDet', _scope_='mmdet', data_preprocessor=dict(type='DetDataPreprocessor', mean=[0.] * 3, std=[1.] * 3),
        backbone=dict(type='CSPNeXt', arch='P5', deepen_factor=0.167, widen_factor=0.125, norm_cfg=dict(type='BN')),
        neck=dict(type='CSPNeXtPAFPN', in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1),
        bbox_head=dict(
            type='RTMDetSepBNHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1, share_conv=True,
            anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
            bbox_coder=dict(type='DistancePointBBoxCoder'), loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='GIoULoss'), norm_cfg=dict(type='BN')))
    found = seen(cfg)
    assert not [address for address in found if 'head' in address]
    assert [found[f'backbone.stage{stage}'][2] for stage in (1, 2, 3, 4)] == [4, 8, 16, 32]
    assert [found[f'neck[{level}]'][2] for level in range(3)] == [8, 16, 32]


def test_the_places_of_a_classifier():
    found = places(classifier())
    assert [(place.address, place.size, place.stride) for place in found[-3:]] == [
        ('neck', None, None), ('head.fc@in', None, None), ('head.fc', None, None)]


def test_frozen_stages_are_said_to_be_frozen():
    cfg = retinanet()
    cfg['backbone'].update(frozen_stages=2)
    assert {place.address: place.gradient for place in places(cfg) if place.kind == 'stage'} == {
        'backbone.layer1': False, 'backbone.layer2': False, 'backbone.layer3': True, 'backbone.layer4': True}


@pytest.mark.parametrize('cfg', [pspnet(), deeplabv3plus(), retinanet(), classifier(), MOBILENET, SWIN],
                         ids=['pspnet', 'deeplab', 'retinanet', 'classifier', 'mobilenet', 'swin'])
def test_every_place_can_be_tapped_and_is_what_it_is_said_to_be(cfg):
    model = MODELS.build(cfg)
    found = find_places(model, PICTURE)
    assert len(found) > 4
    ports = [replace(place, address=f'{place.address}@preact') for place in found if place.preact]
    for place in [*found, *ports]:
        taps = FeatureTaps(model, 'student', [place.address])
        dry_run(model, taps, PICTURE)
        info = taps.info[place.address]
        assert info.channels == place.channels
        assert info.size == place.size or '@preact' in place.address
    taps = FeatureTaps(model, 'student', [place.address for place in found])
    dry_run(model, taps, PICTURE)
    order = [taps.info[place.address].position for place in found]
    assert order == sorted(order)


def test_nothing_of_the_model_is_changed():
    model = MODELS.build(pspnet()).train()
    model.backbone.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    find_places(model, PICTURE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_plain_module_has_places():
    network = torch.nn.Sequential(*(
        torch.nn.Sequential(torch.nn.Conv2d(4 if number else 3, 4, 3, 2, 1), torch.nn.ReLU()) for number in range(3)))
    found = find_places(network, PICTURE, lambda images, samples: network(images))
    assert [(place.address, place.stride, place.preact) for place in found if place.kind == 'stage'] == [
        ('0', 2, True), ('1', 4, True), ('2', 8, True)]


def test_an_image_that_a_model_does_not_take():
    message = r'model.image_shape: the model \(EncoderDecoder\) does not run on an image of \(5, 64, 64\)'
    with pytest.raises(DistillationError, match=message):
        find_places(MODELS.build(pspnet()), torch.zeros(1, 5, *IMAGE))


def test_stages_of_dilated_networks_are_paired_one_by_one():
    assert addresses(suggest_pairs(places(pspnet()), places(pspnet(16, 50))), before_activation=True) == [
        (f'backbone.layer{stage}@preact', f'backbone.layer{stage}@preact') for stage in (1, 2, 3, 4)]


def test_networks_of_other_stages_are_paired_by_stride():
    assert addresses(suggest_pairs(places(MOBILENET), places(retinanet()))) == [
        ('backbone.layer2', 'backbone.layer1'), ('backbone.layer3', 'backbone.layer2'),
        ('backbone.layer5', 'backbone.layer3'), ('backbone.conv2', 'backbone.layer4')]


def test_a_transformer_is_paired_by_stride():
    found = suggest_pairs(places(SWIN), places(retinanet()))
    assert [(ours.stride, theirs.stride) for ours, theirs in found] == [(4, 4), (8, 8), (16, 16), (32, 32)]


def test_what_is_frozen_in_the_student_is_left_out():
    cfg = retinanet()
    cfg['backbone'].update(frozen_stages=1)
    assert addresses(suggest_pairs(places(cfg), places(retinanet(16)))) == [
        (f'backbone.layer{stage}', f'backbone.layer{stage}') for stage in (2, 3, 4)]


def test_levels_and_logits():
    seg, det, cls = places(pspnet()), places(retinanet()), places(classifier())
    assert addresses(suggest_levels(det, places(retinanet(16)))) == [(f'neck[{level}]',) * 2 for level in range(5)]
    assert addresses([suggest_logits(seg, seg)]) == [('decode_head.conv_seg',) * 2]
    assert addresses([suggest_logits(cls, cls)]) == [('head.fc',) * 2]
    assert suggest_logits(seg, places(pspnet(num_classes=7))) is None
    assert suggest_logits(seg, cls) is None
    assert suggest_logits(det, det) is None


def test_a_stage_ends_where_stride_or_width_change():
    def place(name, stride, channels):
        return Place(name, 'stage', channels, (8, 8), stride, True, False, 'Block')

    found = stage_ends([place('a', 4, 8), place('b', 4, 8), place('c', 8, 8), place('d', 8, 16), place('e', 8, 16)])
    assert [one.address for one in found] == ['b', 'c', 'e']
