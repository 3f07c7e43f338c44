"""The distiller as a whole: number T17 of the specification, and its equations put together by hand."""
import pytest
import torch
from zoo import batch, build, classifier, distilled, mgd

from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses import halving_weights
from mmkd_plugin.losses.margins import margins_from_norm, partial_l2
from mmkd_plugin.mgd.reduction import absolute_max, gather_groups

TAPS = ['backbone.layer3@preact', 'backbone.layer4@preact']


@pytest.fixture
def model():
    model = build(distilled(classifier(), mgd=mgd(*TAPS, reduction='sum')))
    for stage in model.distillation.mgd.stages:
        stage.assignment.copy_(torch.randperm(stage.assignment.numel()).view_as(stage.assignment))
        stage.matched = True
    return model


def test_the_loss_is_that_of_the_equations(model):
    model.eval()
    data = model.data_preprocessor(batch('mmpretrain'), True)
    losses = model(**data, mode='loss')
    student, teacher = model.distillation.features(model, Batch(**data, iteration=0), ['mgd'])
    for tap, weight, stage in zip(TAPS, halving_weights(2), model.distillation.mgd.stages):
        norm = getattr(model.distillation.teacher.model.backbone, tap.split('.')[1].split('@')[0])[-1].bn2
        margins = margins_from_norm(norm.weight, norm.bias)
        target, margin = absolute_max(gather_groups(teacher[tap], stage.assignment), margins[stage.assignment])
        source = torch.nn.functional.batch_norm(student[tap], stage.norm.running_mean, stage.norm.running_var,
                                                stage.norm.weight, stage.norm.bias)
        expected = partial_l2(source, target, margin).sum() * weight / (2 * 1e4 * 64 * 64 / 224 ** 2)
        torch.testing.assert_close(losses[f'mgd.loss_{stage.name}'], expected)


def test_T17_norm_and_student_get_gradients_the_teacher_none(model):
    model.train()
    losses = model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')
    sum(value for name, value in losses.items() if name.startswith('mgd')).backward()
    assert model.distillation.mgd.stages[0].norm.weight.grad.abs().sum() > 0
    assert model.backbone.layer3[-1].conv2.weight.grad.abs().sum() > 0
    assert model.head.fc.weight.grad is None
    assert all(parameter.grad is None for parameter in model.distillation.teacher.model.parameters())


def test_T17_the_students_output_at_inference_is_unchanged(model):
    plain = build(classifier())
    plain.load_state_dict(model.state_dict())
    plain.eval()
    model.eval()
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(image, mode='tensor'), plain(image, mode='tensor'))


@pytest.mark.parametrize('reducer', ['random_drop', 'random_drop_channel'])
def test_random_reducers_are_a_function_of_the_iteration(reducer):
    model = build(distilled(classifier(), mgd=mgd('backbone.layer4@preact', reducer=reducer)))
    stage = model.distillation.mgd.stages[0]
    stage.assignment.copy_(torch.randperm(128).view(64, 2))
    student, feature = torch.randn(2, 64, 4, 4), torch.randn(2, 128, 4, 4)
    stage.matched = True
    before = torch.get_rng_state()
    first, again, later = (model.distillation.mgd._target(stage, student, feature, 0, iteration) for iteration in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=['plain', 'channels_last'])
def test_a_target_made_of_a_few_images_at_a_time_is_the_same_bit_for_bit(monkeypatch, memory_format):
    model = build(distilled(classifier(), mgd=mgd('backbone.layer4@preact')))
    distiller = model.distillation.mgd
    stage = distiller.stages[0]
    stage.assignment.copy_(torch.randperm(128).view(64, 2))
    stage.matched = True
    student, teacher = (torch.randn(5, channels, 4, 4).contiguous(memory_format=memory_format) for channels in (64, 128))
    whole = distiller._target(stage, student, teacher, 0, 0)
    calls = []
    monkeypatch.setattr('mmkd_plugin.taps.shapes.CACHED_BYTES', 2 * teacher[0].nbytes)
    monkeypatch.setattr('mmkd_plugin.mgd.distiller.gather_groups', lambda *given: calls.append(1) or gather_groups(*given))
    parts = distiller._target(stage, student, teacher, 0, 0)
    assert len(calls) == 3
    assert torch.equal(parts, whole)
    assert parts.stride() == whole.stride()
