"""Knowledge review: fusions and their loss; the maths are compared with the authors' in tests/losses/test_oracles.py."""
import pytest
import torch
from zoo import STUDENTS, batch, build, distilled, retinanet

from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses import hcl
from mmkd_plugin.utils.errors import DistillationError

PAIRS = ['backbone.layer2', 'backbone.layer3', 'backbone.layer4']


def review(**options):
    return dict(type='mmkd.ReviewKDDistiller', **{'pairs': PAIRS, **options})


@pytest.mark.parametrize('scope', sorted(STUDENTS))
def test_it_trains_student_and_fusions_of_every_codebase(scope):
    model = build(distilled(STUDENTS[scope](), review=review())).train()
    losses = model(**model.data_preprocessor(batch(scope, 3), True), mode='loss')
    total = sum(losses[f'review.loss_layer{level}'] for level in (2, 3, 4))
    total.backward()
    assert total.isfinite()
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all()
               for parameter in model.distillation.review.parameters())
    assert model.distillation.review.fusions[0].enter[0].weight.shape[0] == 64  # the width of layer4
    assert model.distillation.review.fusions[-1].attention is None


def test_the_deepest_level_is_hcl_of_its_own_fusion():
    model = build(distilled(STUDENTS['mmpretrain'](), review=review(hidden=7))).train()
    distiller = model.distillation.review
    ours = dict(zip(PAIRS, (torch.randn(3, width, side, side) for width, side in ((16, 8), (32, 4), (64, 2)))))
    theirs = dict(zip(PAIRS, (torch.randn(3, width, side, side) for width, side in ((32, 8), (64, 4), (128, 2)))))
    losses = distiller(ours, theirs, Batch(torch.zeros(3, 3, 16, 16), None, 0))
    deepest = distiller.fusions[-1]
    assert deepest.enter[0].weight.shape[:2] == (7, 64)
    expected = hcl(deepest.leave(deepest.enter(ours[PAIRS[-1]])), theirs[PAIRS[-1]])
    torch.testing.assert_close(losses['loss_layer4'], expected)


def test_padding_has_no_part_in_it():
    model = build(distilled(retinanet(), review=review())).train()
    samples = batch('mmdet', 3)['data_samples']
    for sample in samples:
        sample.set_metainfo(dict(img_shape=(64, 32), batch_input_shape=(64, 64), pad_shape=(64, 64)))
    ours = {tap: torch.randn(3, width, side, side) for tap, width, side in zip(PAIRS, (16, 32, 64), (8, 4, 2))}
    theirs = {tap: torch.randn(3, width, side, side) for tap, width, side in zip(PAIRS, (32, 64, 128), (8, 4, 2))}

    def losses(change):
        changed = [{tap: torch.cat([feature[..., :feature.shape[3] // 2], feature[..., feature.shape[3] // 2:] + change], 3)
                    for tap, feature in side.items()} for side in (ours, theirs)]
        return model.distillation.review(*changed, Batch(torch.zeros(3, 3, 64, 64), samples, 0))

    assert all(torch.equal(value, losses(100.)[name]) for name, value in losses(0.).items())


@pytest.mark.parametrize(('options', 'message'), [
    (dict(hidden=0), r'model.distillers.review.hidden: 0'), (dict(levels=[]), r'review.levels: \[\]'),
    (dict(hiden=4), r"review.hiden: 'hiden' is no key here. Did you mean 'hidden'")], ids=['hidden', 'levels', 'key'])
def test_a_mistake_is_named(options, message):
    with pytest.raises(DistillationError, match=message):
        build(distilled(STUDENTS['mmpretrain'](), review=review(**options)))
