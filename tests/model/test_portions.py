"""Which images a fraction of a batch is, and what distillers see of them."""
import itertools
import random

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from mmkd_plugin.distiller import Batch, TapNames
from mmkd_plugin.distiller.gradients import compare_gradients
from mmkd_plugin.model.portions import Portions, drawn_order, number_of_images
from mmkd_plugin.taps.shapes import images_of
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.isolation import pack_rng_state

TOTAL = 6


def a_batch(iteration=0, samples=None, total=TOTAL):
    images = torch.arange(total * 12.).view(total, 3, 2, 2)
    return Batch(images, samples if samples is not None else [BaseDataElement(number=n) for n in range(total)], iteration)


@pytest.mark.parametrize(('fraction', 'total', 'expected'), [
    (.5, 2, 1), (.5, 5, 3), (.5, 3, 2), (.1, 4, 1), (.25, 16, 4), (1, 7, 7), (1e-9, 8, 1), (.34, 3, 1), (.999, 3, 3),
    (.7, 10, 7), (.3, 10, 3), (.5, 1, 1), (1, 1, 1)])
def test_a_fraction_is_a_rounded_number_of_images_and_one_at_least(fraction, total, expected):
    assert number_of_images(fraction, total) == expected


def test_the_order_is_a_function_of_its_arguments_alone():
    orders = {key: drawn_order(*key) for key in itertools.product((4, 16), range(20), range(3))}
    for generator in (random.seed, np.random.seed, torch.manual_seed):  # noqa: NPY002
        generator(7)
    assert all(drawn_order(*key) == order for key, order in orders.items())
    assert all(sorted(order) == list(range(key[0])) for key, order in orders.items())
    assert len({tuple(order) for key, order in orders.items() if key[0] == 16}) == 60, 'one for each iteration and rank'


def test_drawing_leaves_the_generators_of_the_run_alone():
    before = pack_rng_state()
    Portions(a_batch(), dict(one=.5))
    assert torch.equal(pack_rng_state(), before)


def test_every_image_is_drawn_as_often_as_the_others():
    first = torch.tensor([drawn_order(4, iteration, 0)[:2] for iteration in range(4000)]).flatten()
    # 2000 each; the standard deviation of the number is 32.
    assert all(abs(int((first == image).sum()) - 2000) < 160 for image in range(4))


def all_taps(name):
    return TapNames(['tap', 'scores'], ['tap'])


def one_tap(name):
    return TapNames(['tap'], ['tap'])


def features(total, channels=3, size=4, channels_last=False):
    feature = torch.randn(total, channels, size, size)
    return feature.contiguous(memory_format=torch.channels_last) if channels_last else feature


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('largest', [.5, 1.0])
def test_smaller_portions_are_the_beginning_of_larger_ones(channels_last, largest):
    batch = a_batch(iteration=3)
    portions = Portions(batch, dict(small=.17, large=largest, middle=.5))
    count = int(largest * TOTAL)
    order = drawn_order(TOTAL, 3, 0)
    seen = order[:count] if largest < 1 else list(range(TOTAL))
    student = features(TOTAL, channels_last=channels_last)
    teacher = torch.randn(TOTAL, 5, 2, 2)
    assert torch.equal(portions.largest.inputs, batch.inputs[seen])
    views = portions.views(dict(tap=student, scores=student.mean((2, 3))), dict(tap=teacher[seen]), all_taps)
    for name, images in dict(small=order[:1], middle=order[:3], large=seen).items():
        view = views[name]
        assert torch.equal(view.student['tap'], student[images]), name
        assert torch.equal(view.student['scores'], student.mean((2, 3))[images]), name
        assert torch.equal(view.teacher['tap'], teacher[images]), name
        assert torch.equal(view.batch.inputs, batch.inputs[images]), name
        assert [sample.number for sample in view.batch.data_samples] == images, name
        assert view.batch.iteration == 3
        assert view.student['tap'].is_contiguous(memory_format=torch.channels_last) is channels_last


def test_whoever_takes_all_images_sees_the_batch_itself():
    batch, student, teacher = a_batch(), torch.randn(TOTAL, 2), torch.randn(TOTAL, 2)
    portions = Portions(batch, dict(whole=1, half=.5))
    view = portions.views(dict(tap=student), dict(tap=teacher), one_tap)['whole']
    assert portions.largest is batch
    assert view.batch is batch
    assert view.student['tap'] is student
    assert view.teacher['tap'] is teacher


def test_images_are_picked_of_what_a_distiller_needs_alone():
    portions = Portions(a_batch(), dict(whole=1, half=.5))
    tap, other = torch.randn(TOTAL, 2), torch.randn(TOTAL, 2)
    views = portions.views(dict(tap=tap, other=other), dict(tap=tap, other=other), one_tap)
    assert [set(features) for features in views['half'][:2]] == [{'tap'}, {'tap'}]
    assert set(views['whole'].student) == {'tap', 'other'}


@pytest.mark.parametrize(('student', 'teacher', 'rows'), [(4 * TOTAL, 3, '24 for 6'), (TOTAL, 12, '12 for 3')],
                         ids=['student', 'teacher'])
def test_a_feature_with_several_rows_for_an_image_is_one_error(student, teacher, rows):
    portions = Portions(a_batch(), dict(one=.5))
    with pytest.raises(DistillationError, match=f"^model.distillers.one.fraction: needs one row for each image; 'tap' has "
                       f'{rows} images. Accepted: 1, or other taps'):
        portions.views(dict(tap=torch.randn(student, 2)), dict(tap=torch.randn(teacher, 2)), one_tap)


def test_the_gradient_of_picked_images_has_their_format_and_is_0_elsewhere():
    index = torch.tensor([4, 1])
    for channels_last in (False, True):
        feature = features(TOTAL, channels_last=channels_last).requires_grad_()
        images_of(feature, index).square().sum().backward()
        assert torch.equal(feature.grad[index], 2 * feature.detach()[index])
        assert feature.grad[[0, 2, 3, 5]].abs().sum() == 0
        assert feature.grad.is_contiguous(memory_format=torch.channels_last) is channels_last


@pytest.mark.parametrize('kind', [torch.tensor, tuple, list], ids=['tensor', 'tuple', 'list'])
def test_data_samples_may_be_a_tensor_or_a_sequence(kind):
    found = Portions(a_batch(samples=kind(range(TOTAL))), dict(one=.5)).largest.data_samples
    assert [int(label) for label in found] == drawn_order(TOTAL, 0, 0)[:3]


def test_no_data_samples_are_none():
    assert Portions(Batch(torch.zeros(4, 3, 2, 2), None, 0), dict(one=.5)).largest.data_samples is None


@pytest.mark.parametrize('samples', [dict(labels=[1] * TOTAL), [1, 2], torch.zeros(())], ids=['dict', 'short', 'scalar'])
def test_data_samples_that_cannot_be_divided_are_one_error(samples):
    with pytest.raises(DistillationError, match=f'^model.distillers.one.fraction: does not go with data samples that are a '
                       f'{type(samples).__name__}. Accepted: 1, or data samples of 6 images in a list, or in a tensor'):
        Portions(a_batch(samples=samples), dict(one=.5))


@pytest.mark.parametrize('count', [1, 2, 3, 6])
def test_gradients_are_compared_as_if_all_images_were_looked_at(count):
    # Every image pulls alike: what is measured on some of them is what all would give.
    portions = Portions(a_batch(), dict(one=count / TOTAL))
    order = drawn_order(TOTAL, 0, 0)[:count] if count < TOTAL else list(range(TOTAL))
    one_task, one_ours = torch.randn(2, 3, 4, 4)
    task = (one_task / TOTAL).expand(TOTAL, 3, 4, 4)
    ours = torch.zeros(TOTAL, 3, 4, 4)
    ours[order] = one_ours / count
    found = compare_gradients(*portions.comparable('one', dict(tap=task), dict(tap=ours)))['tap']
    assert found.ratio == pytest.approx(float(one_ours.norm() / one_task.norm()), rel=1e-5)
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(one_ours.flatten(), one_task.flatten(), 0)), rel=1e-4)


def test_a_loss_that_does_not_depend_on_a_feature_is_compared_as_nothing():
    portions = Portions(a_batch(), dict(one=.5))
    found = compare_gradients(*portions.comparable('one', dict(tap=torch.ones(TOTAL, 2)), dict(tap=torch.zeros(()))))['tap']
    assert found.ratio is None
