"""The hypergradient of a search step by brute force: autograd through a real optimiser's step, in float64."""
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn
from torch.func import functional_call
from zoo import build

from mmkd_plugin.distpro.search import ProcessSearch
from mmkd_plugin.distpro.weights import NORMALISATIONS
from mmkd_plugin.utils.isolation import preserved_rng, set_rng_state


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
