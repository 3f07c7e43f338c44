"""The hypergradient of a search step by brute force: autograd through a real optimiser's step, in float64."""
import copy
import inspect

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn
from torch.func import functional_call
from zoo import build

from mmkd_plugin.distpro.search import ProcessSearch
from mmkd_plugin.distpro.weights import NORMALISATIONS
from mmkd_plugin.search import Clipping
from mmkd_plugin.search.stream import seed_generators
from mmkd_plugin.utils.isolation import get_rng_state, preserved_rng, set_rng_state

CASES = {
    'SGD with everything': (torch.optim.SGD, dict(lr=.05, momentum=.9, nesterov=True, weight_decay=.01)),
    'Adam': (torch.optim.Adam, dict(lr=.01, weight_decay=.01)),
    'AdamW': (torch.optim.AdamW, dict(lr=.01, weight_decay=.05)),
    'RMSprop': (torch.optim.RMSprop, dict(lr=.01, weight_decay=.01))}


@MODELS.register_module(force=True)
class SmoothNet(BaseModel):
    """Two convolutions with batch norm, a smooth activation and dropout in between, and a classifier.

    The convolutions have no bias: before a norm its gradient is 0, and there autograd finds no derivative of Adam's step.
    """

    def __init__(self, width):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.Tanh(),
                                    nn.Dropout(.2))
        self.stage2 = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.Softplus())
        self.head = nn.Linear(width, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.stage2(self.stage1(inputs)).mean((2, 3)))
        if mode != 'loss':
            return scores
        labels = data_samples if torch.is_tensor(data_samples) else torch.stack([sample.label for sample in data_samples])
        return dict(loss=F.cross_entropy(scores, labels))


def smooth_model(others=None, **options):
    """With the distillers ``others`` beside the one that is searched; ``levels=None``: it has none."""
    options = {'mode': 'search', 'levels': ['stage1', 'stage2'], 'transforms': ['conv1', 'conv2'], **options}
    model = build(dict(
        type='mmkd.DistilledModel', student=dict(type='SmoothNet', width=4), image_shape=(3, 8, 8),
        teacher=dict(config=dict(type='SmoothNet', width=6), allow_random_weights=True),
        distillers=dict(**(others or {}), distpro=dict(type='mmkd.DistProDistiller', **{
            key: value for key, value in options.items() if value is not None or key == 'scales'})))).double()
    model.distillation.teacher.model.double()
    distiller = model.distillation.distpro
    if distiller.options.mode == 'search':
        distiller.importance.value.copy_(torch.linspace(.2, 1.4, len(distiller.members)))
    return model.train()


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return dict(inputs=torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64),
                data_samples=torch.randint(0, 3, (4,), generator=generator))


def training_step(model, optimiser, data, max_norm=None, norms=None):
    """A step, with gradients clipped by their norm; ``norms`` gets the one before."""
    optimiser.zero_grad()
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    weights = [weight for group in optimiser.param_groups for weight in group['params'] if weight.grad is not None]
    if max_norm is not None:
        norm = torch.nn.utils.clip_grad_norm_(weights, max_norm)
        if norms is not None:
            norms.append(float(norm))
    optimiser.step()


class BruteForce:
    """theta_{t+1} by the optimiser's own step, as a function of the importance that autograd can follow."""

    def __init__(self, model, optimiser, data, max_norm=None):
        self.model, self.data, self.max_norm, self.kind = model, data, max_norm, type(optimiser)
        self.named = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        names = {parameter: name for name, parameter in model.named_parameters()}
        known = inspect.signature(self.kind.__init__).parameters
        known = [key for key in known if key not in ('params', 'fused', 'differentiable', 'foreach')]
        self.groups = [({key: value for key, value in group.items() if key in known},
                        [names[weight] for weight in group['params']]) for group in optimiser.param_groups]
        self.states = copy.deepcopy({name: dict(optimiser.state.get(parameter, {})) for parameter, name in names.items()})

    def gradient(self, kept, validation, validation_rng):
        importance = self.model.distillation.distpro.importance.value.clone().requires_grad_()
        leaves = {name: value.clone().requires_grad_() for name, value in self.named.items()}
        losses = ProcessSearch(self.model, self.model.distillation.distpro, .05, (.5, .999)).losses(
            {**leaves, **dict(self.model.named_buffers())}, kept)
        weights = NORMALISATIONS['biased_softmax'](importance)
        task = self.task_loss(leaves, self.data, kept.rng)
        constants = self.model.distillation.distpro.constants
        total = task + sum(weight * constant * loss for weight, constant, loss in zip(weights, constants, losses))
        gradients = torch.autograd.grad(total, list(leaves.values()), create_graph=True)
        if self.max_norm is not None:
            norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            gradients = [gradient * (self.max_norm / (norm + 1e-6)).clamp(max=1) for gradient in gradients]
        moved = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        torch.set_default_dtype(torch.float64)  # of the count of steps, which corrections are made from
        optimiser = self.kind([dict(options, params=[moved[name] for name in names]) for options, names in self.groups],
                              lr=.1, differentiable=True, foreach=False)
        for (name, value), gradient in zip(moved.items(), gradients):
            value.grad = gradient
            if self.states[name]:
                optimiser.state[value].update({
                    key: state.double() if torch.is_tensor(state) else state
                    for key, state in copy.deepcopy(self.states[name]).items()})
            elif self.kind is torch.optim.SGD:
                # The first momentum is the gradient, undamped; torch makes it in a way that autograd cannot follow.
                optimiser.state[value]['momentum_buffer'] = torch.zeros_like(value)
        if self.kind is torch.optim.SGD and not any(self.states.values()):
            for group in optimiser.param_groups:
                group['dampening'] = 0
        optimiser.step()
        torch.set_default_dtype(torch.float32)
        loss = self.task_loss(moved, validation, validation_rng)
        return torch.autograd.grad(loss, importance)[0], moved

    def task_loss(self, named, data, rng):
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with self.model.distillation.suspended(), preserved_rng():
            set_rng_state(rng)
            losses = functional_call(self.model, {**named, **buffers}, (), {**data, 'mode': 'loss'})
        return self.model.parse_losses(losses)[0]


def groups(model):
    """The transforms learn at another rate."""
    ours = [parameter for name, parameter in model.named_parameters() if name.startswith('distillation.')]
    first = list(model.stage1.parameters())
    theirs = [parameter for name, parameter in model.named_parameters()
              if not name.startswith(('distillation.', 'stage1.'))]
    return [dict(params=theirs), dict(params=first, lr=.004), dict(params=ours, lr=.02)]


def error(model, optimiser, number, max_norm, gradients=True):
    """A training step that is searched: how far its hypergradient is from the true one, and whether it was clipped."""
    distiller = model.distillation.distpro
    norms = []
    clipping = None if max_norm is None else Clipping(max_norm, False, lambda: norms[0])
    distiller.search = search = ProcessSearch(model, distiller, .05, (.5, .999))
    brute = BruteForce(model, optimiser, batch(number), max_norm)
    distiller.keeps_step, distiller.keeps_gradients = True, gradients
    before = search.snapshot(optimiser, clipping)
    training_step(model, optimiser, batch(number), max_norm, norms)
    distiller.keeps_step = distiller.keeps_gradients = distiller.keeps_weight_gradients = False
    kept = distiller.take_step()
    found = search.gradient(before, kept, batch(1000 + number))
    with preserved_rng():
        seed_generators(search.seed, search.steps, 0)
        validation_rng = get_rng_state()
    true, moved = brute.gradient(kept, batch(1000 + number), validation_rng)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(moved[name].detach(), parameter.detach(), rtol=1e-9, atol=1e-12)
    return ((found - true).norm() / true.norm()).item(), before.watch.response.couples


def assert_exact(model, case, moments, max_norm):
    """The hypergradient is autograd's through the real step of an optimiser, after so many training steps."""
    kind, options = CASES[case]
    optimiser, made = kind(groups(model), **options), 0
    for steps in moments:
        while made < steps:
            training_step(model, optimiser, batch(made), max_norm)
            made += 1
        found, clipped = error(model, optimiser, steps, max_norm)
        made += 1
        assert found < 1e-6, steps
        assert clipped == (max_norm is not None)
