"""CRD as a loss by name: its memory of all images, what it draws, what it asks of the data, and resuming."""
import copy

import pytest
import torch
from loss_tasks import distiller
from resume_runs import differences, epochs_cfg, interrupted
from torch import nn
from zoo import STUDENTS, batch, build, classifier, distilled

from mmkd_plugin.distiller import Batch, build_distiller
from mmkd_plugin.losses import CRDLoss
from mmkd_plugin.losses.contrastive import contrast, contrast_scores, drawn_negatives, normaliser, unit_rows, updated_rows
from mmkd_plugin.taps import TapInfo
from mmkd_plugin.utils.errors import DistillationError

IMAGES, WIDTH, NEGATIVES = 12, 4, 5


class Sample(dict):
    """A data sample that says which image it is."""


def loss_in_float64():
    loss = CRDLoss(images=IMAGES, width=WIDTH, negatives=NEGATIVES)
    torch.manual_seed(0)
    loss.prepare(TapInfo('student', 6, None, None, 0), TapInfo('teacher', 8, None, None, 0))
    return loss.double()


def given(images, iteration=0):
    return Batch(torch.zeros(len(images), 3, 8, 8), [Sample(sample_idx=image) for image in images], iteration)


def test_negatives_are_other_images_each_as_likely():
    generator = torch.Generator().manual_seed(0)
    indices = torch.tensor([0, 5, 11])
    rows = drawn_negatives(indices, 30000, IMAGES, generator)
    assert rows.shape == (3, 30001)
    assert torch.equal(rows[:, 0], indices)
    for image, row in zip(indices, rows[:, 1:]):
        counts = torch.bincount(row, minlength=IMAGES)
        assert counts[image] == 0
        others = counts[torch.arange(IMAGES) != image].double() * (IMAGES - 1) / 30000
        assert (others - 1).abs().max() < 0.1


def test_the_loss_and_its_memory_are_those_of_the_formula_over_several_batches():
    loss = loss_in_float64()
    ours, theirs = loss.memory_student.clone(), loss.memory_teacher.clone()
    z = None
    for iteration, images in enumerate([[3, 7], [7, 1], [0, 11]]):
        student, teacher = torch.randn(2, 6, 2, 3).double(), torch.randn(2, 8, 1, 1).double()
        found = loss(student, teacher, None, given(images, iteration))
        generator = torch.Generator().manual_seed(hash((0, iteration, 0)) % 2 ** 63)
        rows = drawn_negatives(torch.tensor(images), NEGATIVES, IMAGES, generator)
        s = unit_rows(loss.embed_student(student.mean((2, 3))))
        t = unit_rows(loss.embed_teacher(teacher[:, :, 0, 0]))
        z = z or [normaliser(contrast_scores(s, theirs, rows), IMAGES), normaliser(contrast_scores(t, ours, rows), IMAGES)]
        torch.testing.assert_close(found, sum(contrast(s, t, (ours, theirs), rows, z)), rtol=1e-12, atol=0)
        for memory, embedding in ((ours, s), (theirs, t)):
            memory[images] = updated_rows(memory, embedding, torch.tensor(images)).detach()
        found.backward()  # the memory has moved on by now
        torch.testing.assert_close(loss.memory_student, ours, rtol=1e-12, atol=0)
        torch.testing.assert_close(loss.memory_teacher, theirs, rtol=1e-12, atol=0)


def test_an_image_that_is_there_twice_is_remembered_once():
    loss = loss_in_float64()
    student, teacher = torch.randn(3, 6, 1, 1).double(), torch.randn(3, 8, 1, 1).double()
    alone = copy.deepcopy(loss)
    loss(student, teacher, None, given([4, 4, 9]))
    alone(student[::2], teacher[::2], None, given([4, 9]))
    torch.testing.assert_close(loss.memory_student, alone.memory_student, rtol=1e-12, atol=0)


def test_nothing_is_remembered_where_nothing_is_trained():
    loss = loss_in_float64()
    before = loss.memory_student.clone()
    student, teacher = torch.randn(2, 6, 1, 1).double(), torch.randn(2, 8, 1, 1).double()
    with torch.no_grad():
        loss(student, teacher, None, given([4, 9]))
    loss.eval()(student, teacher, None, given([4, 9]))
    assert torch.equal(loss.memory_student, before)


def test_what_is_missing_is_one_error():
    hint = dict(type='mmkd.FeatureDistiller', pairs=['neck'])
    with pytest.raises(DistillationError, match=r'x.loss.images.*missing.*Accepted: a whole number'):
        build_distiller('x', dict(hint, loss='crd'))
    loss = loss_in_float64()
    features = torch.randn(2, 6, 1, 1).double(), torch.randn(2, 8, 1, 1).double()
    for nothing in (None, *(Batch(torch.zeros(2, 3, 8, 8), samples, 0)
                            for samples in ([Sample(), Sample()], None, torch.zeros(2), list(torch.zeros(2))))):
        with pytest.raises(DistillationError, match=r"which image of the data set each is.*Add 'sample_idx' to meta_keys"):
            loss(*features, None, nothing)
    with pytest.raises(DistillationError, match=r'loss.images: 12 is too few: the data set has an image with the number 12'):
        loss(*features, None, given([3, 12]))


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_maps_of_other_tasks_are_embedded_by_their_mean(scope):
    x = distiller('crd', 'backbone.layer4')
    model = build(distilled(STUDENTS[scope](), x=x)).train()
    loss = model(**model.data_preprocessor(batch(scope), True), mode='loss')['x.loss_layer4']
    loss.backward()
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_a_run_with_a_memory_is_resumed_bit_for_bit(tmp_path):
    model = distilled(classifier(4), classifier(4), crd=distiller('crd', 'neck'))

    def make(folder, **options):
        return epochs_cfg(folder, 2, length=4, model=model, **options)

    whole, resumed, losses, later = interrupted(make, tmp_path, epoch=1)
    assert losses == later
    assert differences(whole, resumed) == []
    memory = resumed.model.distillation.crd.losses[0].memory_student
    assert isinstance(resumed.model.distillation.crd.losses[0].embed_student, nn.Linear)
    assert (memory.norm(dim=1) - 1).abs().lt(1e-5).sum() == 4, 'the four images of the data set'
