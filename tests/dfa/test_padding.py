"""``mask_padding`` in DFA: what lies outside of the images has no part in the losses of either run."""
import pytest
import torch
from torch import nn
from zoo import batch, build, dfa, distilled, pspnet, retinanet

from mmkd_plugin.dfa.bridge import DISTANCE_FORMS, ST_FORMS
from mmkd_plugin.dfa.hook import start_search
from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses.valid_area import ValidArea
from mmkd_plugin.utils.errors import DistillationError

STAGES = ('backbone.layer2', 'backbone.layer3')
SIZE, VALID = (64, 256), ((64, 40), (48, 64))
RUNS = {**{f'distill, {form}': dfa('distill', STAGES, aggregation='average', distance=form) for form in DISTANCE_FORMS},
        **{f'search, {form}': dfa('search', STAGES, st_form=form) for form in ST_FORMS},
        'distill, margin': dfa('distill', STAGES, aggregation='average', teacher_transform='margin_relu'),
        'distill, layers': dfa('distill', STAGES, aggregation='average', normalise_layers=True),
        'distill, cwd': dfa('distill', STAGES, aggregation='average', distance='cwd'),
        'search, layers': dfa('search', STAGES, normalise_layers=True)}
DEFAULTS = ('distill, mean', 'search, sq')
EVERY_RUN = [run if run in DEFAULTS else pytest.param(run, marks=pytest.mark.slow) for run in RUNS]


def detector(run, index=0, model=retinanet, **options):
    """A detector in a training, or in the search of one group; norms of the networks in eval mode (as frozen ones are)."""
    student = build(distilled(model(), dfa=dict(RUNS[run], **options))).eval()
    distiller = student.distillation.dfa.train()
    if distiller.wraps:
        start_search(distiller, dict(type='Adam', lr=3e-3), 0).enter(index)
    return student


def padded_batch(valid=VALID):
    """Two images of different sizes, padded right and below; and the same with other pixels in what is padded.

    A feature sees beyond its cell: what is changed lies further from the images than layer3 sees (105 pixels).
    """
    samples = batch('mmdet')['data_samples']
    inputs = torch.zeros(2, 3, *SIZE)
    for number, (sample, (height, width)) in enumerate(zip(samples, valid)):
        sample.set_metainfo(dict(img_shape=(height, width), batch_input_shape=SIZE, pad_shape=SIZE))
        inputs[number, :, :height, :width] = torch.randn(3, height, width)
    other = inputs.clone()
    other[:, :, :, 192:] = torch.randn(2, 3, 64, 64) * 3
    return inputs, other, samples


def losses(model, inputs, samples):
    with torch.no_grad():
        found = model(inputs, samples, mode='loss')
    return {name: value for name, value in found.items() if name.startswith('dfa.')}


@pytest.mark.parametrize('index', [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize('run', EVERY_RUN)
def test_pixels_of_the_padding_change_no_loss(run, index):
    model = detector(run, index)
    inputs, other, samples = padded_batch()
    before, after = (losses(model, images, samples) for images in (inputs, other))
    assert set(before) == ({'dfa.loss_st'} if model.distillation.dfa.wraps else {'dfa.loss_layer2', 'dfa.loss_layer3'})
    for name, value in before.items():
        assert value > 0
        torch.testing.assert_close(after[name], value, rtol=1e-5, atol=0)


@pytest.mark.parametrize('run', EVERY_RUN)
def test_with_the_mask_off_the_padding_counts(run):
    model = detector(run, mask_padding=False)
    inputs, other, samples = padded_batch()
    before, after = (losses(model, images, samples) for images in (inputs, other))
    assert before
    assert all(abs(after[name] - value) > 1e-3 * value for name, value in before.items())


def recorded(model, inputs, samples):
    """The student's and the teacher's features; every layer of the teacher beside its sums, as trainings of beta need it."""
    student, teacher = model.distillation.features(model, Batch(inputs, samples, 0), ['dfa'])
    with torch.no_grad():
        layers = model.distillation.teacher.features(inputs)
    return student, {**teacher, **layers}


def own_losses(model, student, teacher, given):
    """The losses of features that are given."""
    distiller = model.distillation.dfa
    if distiller.wraps:
        distiller.wrap(teacher, given).replace(student[distiller.search.group.student])
    return distiller(student, teacher, given)


def changed_where_nothing_counts(features, mask, given):
    """Copies with other values in the cells that do not count."""
    return {name: feature.where(mask.cells(given, feature.shape[2:]), torch.randn_like(feature) * 5)
            for name, feature in features.items()}


@pytest.mark.parametrize('run', EVERY_RUN)
def test_features_of_the_padding_have_no_part_and_no_gradient(run):
    model = detector(run)
    inputs, _, samples = padded_batch()
    given, mask = Batch(inputs, samples, 0), ValidArea(None)
    student, teacher = recorded(model, inputs, samples)
    before = own_losses(model, student, teacher, given)
    other_student, other_teacher = (changed_where_nothing_counts(features, mask, given) for features in (student, teacher))
    for feature in other_student.values():
        feature.requires_grad_()
    after = own_losses(model, other_student, other_teacher, given)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-5, atol=0)
    sum(after.values()).backward()
    for feature in other_student.values():
        valid = mask.cells(given, feature.shape[2:])
        assert feature.grad.where(valid, 0.).abs().sum() > 0
        assert (feature.grad.masked_select(~valid) == 0).all()


def test_beta_does_not_see_the_padding_of_the_students_distance():
    model = detector('search, sq')
    inputs, _, samples = padded_batch()
    given, mask = Batch(inputs, samples, 0), ValidArea(None)
    with model.distillation.dfa.search.group.live() as beta:
        student, teacher = recorded(model, inputs, samples)
        found = [torch.autograd.grad(own_losses(model, student, layers, given)['loss_st'], beta)[0]
                 for layers in (teacher, changed_where_nothing_counts(teacher, mask, given))]
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize('run', DEFAULTS)
def test_segmentation_is_masked_only_where_asked_for(run):
    for mask_padding in (None, True):
        model = detector(run, model=pspnet, mask_padding=mask_padding)
        data = model.data_preprocessor(batch('mmseg'), True)  # the uppermost 8 rows have no label
        given, mask = Batch(data['inputs'], data['data_samples'], 0), ValidArea(True)
        student, teacher = recorded(model, data['inputs'], data['data_samples'])
        before = own_losses(model, student, teacher, given)
        others = (changed_where_nothing_counts(features, mask, given) for features in (student, teacher))
        after = own_losses(model, *others, given)
        for name, value in before.items():
            assert torch.isclose(after[name], value, rtol=1e-4) == bool(mask_padding)


@pytest.mark.parametrize('valid', [VALID, (SIZE, SIZE)], ids=['padded', 'not padded'])
@pytest.mark.parametrize('run', DEFAULTS)
def test_sync_bn_is_refused_whether_a_batch_is_padded_or_not(run, valid):
    model = detector(run)
    for group in model.distillation.dfa.groups:
        group.to_teacher[1] = nn.SyncBatchNorm(group.channels)
    inputs, _, samples = padded_batch(valid)
    with pytest.raises(DistillationError, match="model.distillers.dfa.connector_norm: 'SyncBN' cannot leave out padding. "
                                                "Accepted: 'BN', None, or mask_padding=False"):
        losses(model, inputs, samples)
