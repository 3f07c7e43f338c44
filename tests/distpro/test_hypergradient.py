"""The hypergradient of a search step against brute force: autograd through a real optimiser's step, in float64."""
from dataclasses import replace

import pytest
import torch
from distpro_runs import UNEVEN, distpro, padded
from distpro_truth import BruteForce, batch, smooth_model, training_step
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from zoo import build, distilled, retinanet

from mmkd_plugin.distpro.hypergradient import exact_derivatives, finite_difference_derivatives
from mmkd_plugin.distpro.search import ProcessSearch, validation_gradient
from mmkd_plugin.search.stream import seed_generators
from mmkd_plugin.utils.isolation import get_rng_state, preserved_rng

SGD = {'SGD': dict(lr=.1), 'momentum': dict(lr=.1, momentum=.9),
       'Nesterov and weight decay': dict(lr=.1, momentum=.9, nesterov=True, weight_decay=.01)}


def padded_batch(seed):
    data = batch(seed)
    samples = [BaseDataElement(metainfo=dict(img_shape=(8 - number, 5 + number)), label=label)
               for number, label in enumerate(data['data_samples'])]
    return {**data, 'data_samples': samples}


def detector():
    """A real one in float64, which is given its batches as they are."""
    levels = ['backbone.layer2@preact', 'backbone.layer3@preact']
    distiller = distpro(levels=levels, transforms=['conv1', 'conv3_relu', 'token3'])
    model = build(distilled(retinanet(), distpro=distiller)).double()
    model.distillation.teacher.model.double()
    model.data_preprocessor = BaseDataPreprocessor()
    return model.train()


def batch_of_a_detector(seed):
    torch.manual_seed(seed)
    given = padded(UNEVEN)
    return dict(inputs=given.inputs.double(), data_samples=given.data_samples)


def search_step(optimiser_options, hypergradient='exact', radius=.01, gradients=True, model=None, batch=batch):
    """Two training steps, the second searched; returns the found gradient, the true one, and the search."""
    model = model or smooth_model()
    distiller = model.distillation.distpro
    optimiser = torch.optim.SGD(model.parameters(), **optimiser_options)
    distiller.search = search = ProcessSearch(model, distiller, .05, (.5, .999), hypergradient, radius)
    training_step(model, optimiser, batch(0))  # so that momentum is not 0
    brute = BruteForce(model, optimiser, batch(1))
    distiller.keeps_step, distiller.keeps_gradients = True, gradients
    before = search.snapshot(optimiser)
    training_step(model, optimiser, batch(1))
    kept = distiller.take_step()
    found = search.gradient(before, kept, batch(2))
    with preserved_rng():
        seed_generators(search.seed, search.steps, 0)
        validation_rng = get_rng_state()
    true, moved = brute.gradient(kept, batch(2), validation_rng)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(moved[name].detach(), parameter.detach(), rtol=1e-12, atol=1e-14)
    return found, true, (search, before, kept)


@pytest.mark.parametrize('gradients', [True, False], ids=['from the backward', 'transforms in forward mode'])
@pytest.mark.parametrize('name', list(SGD))
def test_the_exact_hypergradient_is_that_of_brute_force(name, gradients):
    found, true, _ = search_step(SGD[name], gradients=gradients)
    assert ((found - true).norm() / true.norm()).item() < 1e-9
    assert true.abs().min() > 1e-6


@pytest.mark.parametrize('gradients', [True, False], ids=['from the backward', 'transforms in forward mode'])
@pytest.mark.parametrize('distance', ['l2', 'hcl', 'vid'])
def test_so_it_is_where_padding_is_left_out(distance, gradients):
    model = smooth_model(mask_padding=True, distance=distance, connections='all')
    found, true, (search, before, kept) = search_step(SGD['momentum'], gradients=gradients, model=model, batch=padded_batch)
    assert ((found - true).norm() / true.norm()).item() < 1e-9
    assert true.abs().min() > 1e-7
    valid = search.distiller.valid_area.cells(kept.batch, (8, 8))
    inside, everywhere = search.losses(before.point, kept), search.losses(before.point, replace(kept, batch=replace(
        kept.batch, data_samples=[BaseDataElement() for _ in range(4)])))
    assert 0 < valid.sum() < valid.numel()
    assert not any(torch.isclose(one, other, rtol=1e-6, atol=0) for one, other in zip(inside, everywhere))


@pytest.mark.parametrize('gradients', [True, False], ids=['from the backward', 'transforms in forward mode'])
def test_so_it_is_of_a_detector_whose_images_differ_in_size(gradients):
    found, true, (search, _, kept) = search_step(dict(lr=.01, momentum=.9), gradients=gradients, model=detector(),
                                                 batch=batch_of_a_detector)
    assert search.distiller.valid_area.cells(kept.batch, (8, 16)) is not None
    assert ((found - true).norm() / true.norm()).item() < 1e-9
    assert true.abs().min() > 1e-6


def test_the_error_of_the_finite_difference_falls_fourfold_when_eps_is_halved():
    _, _, (search, before, kept) = search_step(SGD['SGD'])
    direction = {name: .1 * gradient for name, gradient in validation_gradient(search.model, batch(2)).items()}

    def losses(weights):
        return search.losses(weights, kept)

    exact = exact_derivatives(losses, before.point, direction)
    errors = [(finite_difference_derivatives(losses, before.point, direction, radius) - exact).norm() / exact.norm()
              for radius in (.04, .02, .01)]
    assert errors[2] < 1e-3
    for coarse, fine in zip(errors, errors[1:]):
        assert 3.7 < coarse / fine < 4.3


def test_the_finite_difference_of_a_search_is_near_brute_force():
    found, true, _ = search_step(SGD['SGD'], 'finite_difference')
    assert ((found - true).norm() / true.norm()).item() < 1e-2
