"""The hypergradient of a search step against brute force: autograd through a real optimiser's step, in float64."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn
from torch.func import functional_call
from zoo import build

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
        return dict(loss=F.cross_entropy(scores, data_samples)) if mode == 'loss' else scores


SGD = {'SGD': dict(lr=.1), 'momentum': dict(lr=.1, momentum=.9),
       'Nesterov and weight decay': dict(lr=.1, momentum=.9, nesterov=True, weight_decay=.01)}


def smooth_model(**options):
    model = build(dict(
        type='mmkd.DistilledModel', student=dict(type='SmoothNet', width=4), image_shape=(3, 8, 8),
        teacher=dict(config=dict(type='SmoothNet', width=6), allow_random_weights=True),
        distillers=dict(distpro=dict(type='mmkd.DistProDistiller', teacher=['stage1', 'stage2'],
                                     student=['stage1', 'stage2'], mode='search', transforms=['conv1', 'conv2'],
                                     **options)))).double()
    model.distillation.distpro.is_searched = True
    model.distillation.teacher.model.double()
    model.distillation.distpro.importance.copy_(torch.linspace(.2, 1.4, 6))
    return model.train()


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return dict(inputs=torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64),
                data_samples=torch.randint(0, 3, (4,), generator=generator))


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
        importance = self.model.distillation.distpro.importance.clone().requires_grad_()
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
            return functional_call(self.model, {**named, **buffers}, (), {**data, 'mode': 'loss'})['loss']


def search_step(optimiser_options, hypergradient='exact', radius=.01, gradients=True):
    """Two training steps, the second searched; returns the found gradient, the true one, and the search."""
    model = smooth_model()
    optimiser = torch.optim.SGD(model.parameters(), **optimiser_options)
    training_step(model, optimiser, batch(0))  # so that momentum is not 0
    brute = BruteForce(model, optimiser, batch(1))
    search = ProcessSearch(model, model.distillation.distpro, .05, (.5, .999), hypergradient, radius)
    model.distillation.keeps_forward, model.distillation.distpro.keeps_gradients = True, gradients
    before = search.snapshot(optimiser)
    training_step(model, optimiser, batch(1))
    kept = model.distillation.take_step()
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
