"""Which losses are means over the images of a batch, so that a portion of it needs no other weight."""
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo import sample

from mmkd_plugin.losses import Batch, FeatureLoss, LogitsLoss, build_loss, loss_names
from mmkd_plugin.taps import TapInfo
from mmkd_plugin.taps.shapes import images_of

RELATIONS = ('cirkd_channel', 'cirkd_pixel', 'dist', 'mlkd', 'pkd', 'pkt', 'rkd_angle', 'rkd_distance', 'sp')
"""Losses that compare the images of a batch with each other, or take statistics over all of them."""
DRAWN = ('crd', 'masked_generative')
"""Means whose value is drawn: the masks, or the images that are compared, are other ones for a portion."""
MEANS = sorted({*loss_names(FeatureLoss), *loss_names(LogitsLoss)} - {*RELATIONS, *DRAWN})
IMAGES = 4
PAGE = Path(__file__).resolve().parents[2] / 'docs/every-and-fraction.md'


def loss_of_images(name):
    """A student's tensor (B, ...) in float64, and its loss as a function of it and of some images' numbers."""
    torch.manual_seed(1)
    if name in loss_names(LogitsLoss):
        student, teacher = torch.randn(2, IMAGES, 5, dtype=torch.float64)
        labels, loss = torch.randint(0, 5, (IMAGES,)), build_loss(name, LogitsLoss)
        return student, lambda one, images: loss(images_of(one, images), teacher[images], None, labels[images])
    student, teacher = torch.randn(2, IMAGES, 6, 8, 8, dtype=torch.float64)
    info = TapInfo('tap', 6, (8, 8), nn.BatchNorm2d(6), 0)
    loss = build_loss(name, FeatureLoss)
    loss.prepare(info, info)
    for parameter in loss.parameters():
        nn.init.normal_(parameter, std=0.3)
    loss.double()
    scope = 'mmdet' if name == 'fgd' else 'mmseg'
    batch = Batch(torch.zeros(IMAGES, 3, 64, 64), [sample(scope, number)['data_samples'] for number in range(IMAGES)], 0)
    return student, lambda one, images: loss(images_of(one, images), teacher[images], None,
                                             batch.part(images.tolist(), images))


def gradient(student, value, images):
    leaf = student.clone().requires_grad_()
    loss = value(leaf, torch.tensor(images))
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def over_all_portions(name, count):
    """Loss and gradient of the whole batch, and their means over all its portions."""
    student, value = loss_of_images(name)
    whole = gradient(student, value, range(IMAGES))
    portions = [gradient(student, value, images) for images in itertools.combinations(range(IMAGES), count)]
    return whole, tuple(torch.stack(each).mean(0) for each in zip(*portions))


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('name', MEANS)
def test_the_mean_over_all_portions_is_the_loss_and_the_gradient_of_the_batch(name, count):
    (whole, gradients), (mean, mean_gradients) = over_all_portions(name, count)
    torch.testing.assert_close(mean, whole, rtol=1e-10, atol=0)
    assert gradients.abs().sum() > 0
    torch.testing.assert_close(mean_gradients, gradients, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize('name', RELATIONS)
def test_what_relates_images_to_each_other_is_another_loss_on_fewer_of_them(name):
    (_, gradients), (_, mean_gradients) = over_all_portions(name, 3)
    assert not torch.allclose(mean_gradients, gradients, rtol=1e-3, atol=0)


@pytest.mark.parametrize(('name', 'images'), [
    ('sp', 1), ('pkt', 1), ('rkd_distance', 2), ('rkd_angle', 2)])
def test_relations_of_too_few_images_teach_nothing(name, images):
    student, value = loss_of_images(name)
    loss, gradients = gradient(student, value, range(images))
    assert loss == pytest.approx(0, abs=1e-12)
    assert gradients.abs().max() < 1e-12
    _, enough = gradient(student, value, range(images + 1))
    assert enough.abs().max() > 1e-8


def test_the_page_names_the_losses_that_are_no_means():
    text = PAGE.read_text()
    assert [name for name in (*RELATIONS, *DRAWN) if f'`{name}`' not in text] == []
