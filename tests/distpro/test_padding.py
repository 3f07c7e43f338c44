"""What padding holds has no part in DistPro: in no loss, norm or hypergradient."""
import pytest
import torch
import torch.nn.functional as F
from distpro_runs import PADDED, UNEVEN, distpro, padded
from torch import nn
from zoo import build, distilled, retinanet

from mmkd_plugin.distiller import Batch
from mmkd_plugin.distpro import PATHWAY_TRANSFORMS
from mmkd_plugin.losses import ValidArea
from mmkd_plugin.utils.errors import DistillationError

TAPS = ['backbone.layer2@preact', 'backbone.layer3@preact']
TRANSFORMS = ('conv1', 'conv2', 'conv3', 'conv3_relu', 'token1', 'token2', 'token3')


def detector(**options):
    """All four ways between two levels of a detector: to a finer, to the same and to a coarser map."""
    values = [1.] * 4 * len(options.get('transforms', TRANSFORMS))
    distiller = distpro('constant', **{'levels': TAPS, 'connections': 'all', 'transforms': list(TRANSFORMS), 'tau': None,
                                       'values': values, **options})
    model = build(distilled(retinanet(), distpro=distiller)).train()
    return model, model.distillation.distpro


def with_other_padding(features, given):
    """The same features where they count, and others where they do not."""
    valid = {tap: ValidArea(None).cells(given, feature.shape[2:]) for tap, feature in features.items()}
    return {tap: torch.where(valid[tap], feature, torch.randn_like(feature) * 9) for tap, feature in features.items()}


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize('distance', ['l1', 'l2', 'hcl'])
def test_what_padded_cells_hold_changes_no_loss_and_no_running_statistics(distance):
    model, distiller = detector(distance=distance)
    given = padded(UNEVEN)
    student, teacher = model.distillation.features(model, given, ['distpro'])
    start, losses, after = state(distiller), [], []
    for features in ((student, teacher), (with_other_padding(student, given), with_other_padding(teacher, given))):
        distiller.load_state_dict(start)
        losses.append(distiller.pathway_losses(*features, given))
        after.append(state(distiller))
    for pathway, one, other in zip(distiller.pathways, *losses):
        assert one > 0, pathway
        torch.testing.assert_close(other, one, rtol=1e-5, atol=0, msg=str(pathway))
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, msg=name)
    assert any(not torch.equal(value, start[name]) for name, value in after[0].items())


@pytest.mark.parametrize('distance', ['l1', 'l2', 'hcl'])
def test_with_the_mask_off_they_count(distance):
    model, distiller = detector(distance=distance, mask_padding=False)
    given = padded(UNEVEN)
    student, teacher = model.distillation.features(model, given, ['distpro'])
    losses = distiller.pathway_losses(student, teacher, given)
    others = distiller.pathway_losses(with_other_padding(student, given), with_other_padding(teacher, given), given)
    assert all(abs(other - one) > 1e-3 * one for one, other in zip(losses, others))


@pytest.mark.parametrize('distance', ['l1', 'l2'])  # hcl pools over parts of the whole map
def test_losses_are_those_of_the_images_alone(distance):
    # Convolutions end where the images end, as at the border of a map.
    model, distiller = detector(distance=distance)
    given, alone = padded(((64, 64), (64, 64))), padded(((64, 64), (64, 64)), (64, 64))
    student, teacher = model.distillation.features(model, given, ['distpro'])
    cropped = [{tap: feature[..., :feature.shape[3] // 2] for tap, feature in side.items()} for side in (student, teacher)]
    for pathway, one, other in zip(distiller.pathways, distiller.pathway_losses(student, teacher, given),
                                   distiller.pathway_losses(*cropped, alone)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=str(pathway))


def test_pixels_of_the_padding_change_no_loss_of_the_detector():
    model, distiller = detector()
    model.eval()  # norms of the networks take their statistics from the padding too, in the plain student as well
    distiller.train()
    given = padded(((64, 40), (48, 64)), (64, 256))
    other = given.inputs.clone()
    other[..., 176:] = torch.randn(2, 3, 64, 80) * 3  # further from the images than layer3 sees (111 pixels)
    seen = [model.distillation.features(model, Batch(images, given.data_samples, 0), ['distpro'])[0]
            for images in (given.inputs, other)]
    assert not any(torch.equal(seen[0][tap], seen[1][tap]) for tap in TAPS)
    losses = []
    for images in (given.inputs, other):
        with torch.no_grad():
            losses.append(model(images, given.data_samples, mode='loss')['distpro.loss_pathways'])
    assert losses[0] > 0
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)


def test_no_gradient_reaches_the_padding():
    model, distiller = detector()
    given = padded(UNEVEN)
    student, teacher = model.distillation.features(model, given, ['distpro'])
    features = {tap: feature.requires_grad_() for tap, feature in student.items()}
    sum(distiller.pathway_losses(features, teacher, given)).backward()
    for feature in features.values():
        valid = ValidArea(None).cells(given, feature.shape[2:])
        assert (feature.grad.masked_select(~valid) == 0).all()
        assert feature.grad.masked_select(valid).abs().sum() > 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in distiller.parameters())


def test_an_image_without_a_valid_cell_is_left_out():
    model, distiller = detector()
    given = padded(((64, 128), (2, 2)))
    student, teacher = model.distillation.features(model, given, ['distpro'])
    assert all(loss.isfinite() for loss in distiller.pathway_losses(student, teacher, given))


def loss_of(model):
    given = padded(UNEVEN)
    return model(given.inputs, given.data_samples, mode='loss')


def test_a_users_transform_that_cannot_leave_padding_out_is_named():
    @PATHWAY_TRANSFORMS.register_module(name='blind', force=True)
    class Blind(nn.Module):
        def __init__(self, student, teacher):
            super().__init__()
            self.conv = nn.Conv2d(student, teacher, 1)

        def forward(self, feature, size):
            return F.interpolate(self.conv(feature), size)

    try:
        with pytest.raises(DistillationError, match="^model.distillers.distpro.transforms: 'blind' takes no `valid`, so it "
                                                    'cannot leave out padding. Accepted: .*mask_padding=False'):
            loss_of(detector(transforms=['blind'])[0])
        assert loss_of(detector(transforms=['blind'], mask_padding=False)[0])['distpro.loss_pathways'] > 0
    finally:
        del PATHWAY_TRANSFORMS.module_dict['blind']


@pytest.mark.parametrize('valid', [UNEVEN, (PADDED, PADDED)], ids=['padded', 'not padded'])
def test_norms_over_ranks_are_refused_whether_a_batch_is_padded_or_not(valid):
    model, distiller = detector(transforms=['conv1'])
    distiller.transforms[0].before[1] = nn.SyncBatchNorm(16)
    given = padded(valid)
    with pytest.raises(DistillationError, match="distpro.transforms: 'SyncBN' cannot leave out padding"):
        model(given.inputs, given.data_samples, mode='loss')
