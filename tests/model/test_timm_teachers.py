"""Teachers of timm: through mmpretrain's wrappers, and as plain modules."""
from copy import deepcopy

import pytest
import timm
import torch
from zoo import batch, build, distilled, pspnet, retinanet, run, run_cfg

from mmkd_plugin.model.teacher_weights import hash_weights

MEAN, STD = [.485, .456, .406], [.229, .224, .225]
PREPROCESSOR = dict(type='ClsDataPreprocessor', mean=[255 * number for number in MEAN], std=[255 * number for number in STD],
                    to_rgb=True)
RESNET = dict(model_name='resnet10t', stem_width=8, channels=(8, 16, 32, 64))
VIT = dict(model_name='vit_small_patch14_reg4_dinov2', img_size=70, depth=2, embed_dim=24, num_heads=2,
           dynamic_img_size=True)
CLASSIFIER = dict(type='TimmClassifier', _scope_='mmpretrain', data_preprocessor=PREPROCESSOR, **RESNET)
BACKBONE = dict(type='ImageClassifier', _scope_='mmpretrain', data_preprocessor=PREPROCESSOR, neck=None, head=None,
                backbone=dict(type='TIMMBackbone', features_only=True, **RESNET))
STUDENTS = dict(mmseg=pspnet(), mmdet=retinanet())
BLOCKS = dict(wrapper=(dict(config=CLASSIFIER), 'model.layer3'),
              module=(dict(module='timm:create_model', kwargs=RESNET, mean=MEAN, std=STD), 'layer3'))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """The weights of a network and of a transformer of timm, in files as timm has them."""
    folder = tmp_path_factory.mktemp('timm')
    for name, options in dict(resnet=RESNET, vit=VIT).items():
        torch.manual_seed(0)
        torch.save(timm.create_model(**options).state_dict(), folder / f'{name}.pth')
    return folder


def taught(student, block, *pairs):
    cfg = distilled(student, one=dict(type='mmkd.FeatureDistiller', pairs=list(pairs), loss='cosine', adapter='conv1x1'))
    return dict(cfg, teacher=block)


def normalised(scope):
    """What timm's models take for the images of a batch, which are blue first."""
    pixels = torch.stack(batch(scope)['inputs']).float().flip(1) / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.mark.parametrize('scope', STUDENTS)
@pytest.mark.parametrize(('block', 'tap'), BLOCKS.values(), ids=BLOCKS)
def test_it_gives_what_it_gives_in_timm(scope, block, tap, files):
    block = dict(block, checkpoint=str(files / 'resnet.pth'))
    model = build(taught(STUDENTS[scope], block, ('backbone.layer3', tap))).train()
    reference, kept = timm.create_model(**RESNET), []
    reference.load_state_dict(torch.load(files / 'resnet.pth'))
    reference.layer3.register_forward_hook(lambda *args: kept.append(args[2]))
    reference.eval()(normalised(scope))
    data = model.data_preprocessor(batch(scope), True)
    found = model.distillation.teacher.features(data['inputs'], data['data_samples'])[tap]
    torch.testing.assert_close(found, kept[0], rtol=1e-4, atol=1e-5)
    assert model.distillation.teacher.identity['sha256'] == hash_weights(reference)
    model(**deepcopy(data), mode='loss')['one.loss_layer3'].backward()
    assert all(parameter.grad.any() for parameter in model.distillation.parameters())


def test_the_pyramid_of_a_backbone_is_tapped_by_level():
    block = dict(config=BACKBONE, allow_random_weights=True)
    model = build(taught(pspnet(), block, ('backbone.layer3', 'backbone[3]'), ('backbone.layer4', 'backbone[4]')))
    assert {address: info.channels for address, info in model.distillation.teacher.taps.info.items()} == {
        'backbone[3]': 32, 'backbone[4]': 64}


@pytest.mark.parametrize('scope', STUDENTS)
def test_patch_tokens_without_class_and_registers_are_the_map(scope, tmp_path, files):
    block = dict(module='timm:create_model', kwargs=VIT, mean=MEAN, std=STD, size_multiple=14,
                 checkpoint=str(files / 'vit.pth'))
    cfg = taught(STUDENTS[scope], block, ('backbone.layer3', 'norm'))
    runner, losses = run(run_cfg(cfg, tmp_path, length=2))
    assert 0 < losses[0]['one.loss_layer3'] < 2
    held = runner.model.distillation.teacher
    images = torch.randn(2, 3, 64, 128)
    found = held.features(images)['norm']
    assert found.shape == (2, 24, 5, 10)
    resized = torch.nn.functional.interpolate(held._renormalise(images), (70, 140), mode='bilinear')
    tokens = held.model.forward_features(resized)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens[:, 5:])
    state = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert set(state) == set(build(STUDENTS[scope]).state_dict())
