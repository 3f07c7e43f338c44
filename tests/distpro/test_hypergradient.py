"""The hypergradient of a search step against brute force: autograd through a real optimiser's step, in float64."""
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from distpro_runs import UNEVEN, distpro, padded
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import nn
from torch.func import functional_call
from zoo import build, distilled, retinanet

from mmkd_plugin.distpro.hypergradient import exact_derivatives, finite_difference_derivatives
from mmkd_plugin.distpro.search import ProcessSearch, validation_gradient
from mmkd_plugin.distpro.weights import NORMALISATIONS
from mmkd_plugin.search.stream import seed_generators
from mmkd_plugin.utils.isolation import get_rng_state, preserved_rng, set_rng_state


@MODELS.register_module(force=True)
class SmoothNet(BaseModel):
    """Two convolutions with batch norm, a smooth activation and dropout in between, and a classifier."""

    def __init__(self, width):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Tanh(), nn.Dropout(.2))
        self.stage2 = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.Softplus())
        self.head = nn.Linear(width, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.stage2(self.stage1(inputs)).mean((2, 3)))
        if mode != 'loss':
            return scores
        labels = data_samples if torch.is_tensor(data_samples) else torch.stack([sample.label for sample in data_samples])
        return dict(loss=F.cross_entropy(scores, labels))


SGD = {'SGD': dict(lr=.1), 'momentum': dict(lr=.1, momentum=.9),
       'Nesterov and weight decay': dict(lr=.1, momentum=.9, nesterov=True, weight_decay=.01)}


def smooth_model(**options):
    model = build(dict(
        type='mmkd.DistilledModel', student=dict(type='SmoothNet', width=4), image_shape=(3, 8, 8),
        teacher=dict(config=dict(type='SmoothNet', width=6), allow_random_weights=True),
        distillers=dict(distpro=dict(type='mmkd.DistProDistiller', levels=['stage1', 'stage2'], mode='search',
                                     transforms=['conv1', 'conv2'], **options)))).double()
    model.distillation.teacher.model.double()
    model.distillation.distpro.importance.value.copy_(torch.linspace(.2, 1.4, len(model.distillation.distpro.pathways)))
    return model.train()


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return dict(inputs=torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64),
                data_samples=torch.randint(0, 3, (4,), generator=generator))


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


def training_step(model, optimiser, data):
    optimiser.zero_grad()
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    optimiser.step()


class BruteForce:
    """theta_{t+1} by the optimiser's own step, as a function of the importance that autograd can follow."""

    def __init__(self, model, optimiser, data):
        self.model, self.data = model, data
        self.options = {**optimiser.defaults, 'differentiable': True, 'foreach': False, 'fused': None}
        self.named = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self.momenta = {name: optimiser.state[parameter].get('momentum_buffer')
                        for name, parameter in model.named_parameters()}
        self.momenta = {name: value if value is None else value.clone() for name, value in self.momenta.items()}

    def gradient(self, kept, validation, validation_rng):
        importance = self.model.distillation.distpro.importance.value.clone().requires_grad_()
        leaves = {name: value.clone().requires_grad_() for name, value in self.named.items()}
        losses = ProcessSearch(self.model, self.model.distillation.distpro, .05, (.5, .999)).losses(
            {**leaves, **dict(self.model.named_buffers())}, kept)
        weights = NORMALISATIONS['biased_softmax'](importance)
        task = self.task_loss(leaves, self.data, kept.rng)
        total = task + sum(weight * loss for weight, loss in zip(weights, losses))
        gradients = torch.autograd.grad(total, list(leaves.values()), create_graph=True)
        moved = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        optimiser = torch.optim.SGD(list(moved.values()), **self.options)
        for (name, value), gradient in zip(moved.items(), gradients):
            value.grad = gradient
            if self.momenta[name] is not None:
                optimiser.state[value]['momentum_buffer'] = self.momenta[name].clone()
        optimiser.step()
        loss = self.task_loss(moved, validation, validation_rng)
        return torch.autograd.grad(loss, importance)[0], moved

    def task_loss(self, named, data, rng):
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with self.model.distillation.suspended(), preserved_rng():
            set_rng_state(rng)
            losses = functional_call(self.model, {**named, **buffers}, (), {**data, 'mode': 'loss'})
        return self.model.parse_losses(losses)[0]


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
    # Nesterov's step takes the gradient (1 + momentum) times: a constant, which Adam absorbs.
    factor = 1 + SGD[name].get('momentum', 0) if SGD[name].get('nesterov') else 1
    assert ((found * factor - true).norm() / true.norm()).item() < 1e-9
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
    assert not any(torch.isclose(one, other, rtol=1e-4) for one, other in zip(inside, everywhere))


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
