"""The order in which a network's maps lie in memory: (B, C, H, W) as it stands, or with the channels last.

A convolution gives its output in the format of its input or, where that is plain, of its weight, and what comes after it
(norms, activations, pooling, sums) keeps the format. So the weights of the convolutions are all that is converted.
"""
import copy
import math
from contextlib import contextmanager
from functools import partial
from typing import Any, Dict, Iterator, List, Tuple, Union

import torch
from mmcv.cnn.bricks import wrappers
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, wrappers.Conv2d, wrappers.ConvTranspose2d)
"""Exactly these classes: those derived from them may do anything with their weight (``ConvWS2d`` takes a view of it)."""
Convolution = Union[nn.Conv2d, nn.ConvTranspose2d]
AGREEMENT, HALF_AGREEMENT = 0.1, 0.5
"""By how much the gradients of two formats may differ, relatively, in float32 and under autocast. Rounding makes 1e-6 in
most networks, and up to 1e-2 where it turns a choice (the assignment of a box, the largest channel); wrong memory 1."""


def convolutions(model: nn.Module) -> List[Convolution]:
    """The modules of a model whose weights may lie with their channels last."""
    return [module for module in model.modules()
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and type(module) in CONVOLUTIONS]


def unfit_for_channels_last(model: nn.Module) -> str:
    """Why a model has to stay in the plain format, in words; empty if nothing is known against the other."""
    found = convolutions(model)
    if not found:
        return 'it has no 2-D convolution'
    on_cpu = found[0].weight.device.type == 'cpu'
    for module in model.modules():
        if on_cpu and isinstance(module, nn.Conv2d) and _overruns(module):
            return f'it has a 1x1 convolution of {module.in_channels} channels with a stride, and no multiple of 16'
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            return 'it has 3-D convolutions'
        # Their kernels read memory as if it were in the plain order: RoIAlign of channels_last maps gives other numbers.
        if type(module).__module__.startswith('mmcv.ops'):
            return f"it has a {type(module).__name__}, as others of mmcv's operators made for the plain format"
    return ''


def set_format(model: nn.Module, channels_last: bool) -> None:
    """Puts the weights of a model's 2-D convolutions into a format; they stay the same parameters with the same numbers."""
    for module in convolutions(model):
        weight: Tensor = module.weight
        weight.data = weight.data.to(memory_format=_format(channels_last))


def follow_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Puts gradients and states of an optimiser into the formats of their parameters, as in a run that was not resumed.

    Sums over tensors in two formats are slow, and rounded otherwise.
    """
    for group in optimizer.param_groups:
        for parameter in group['params']:
            if parameter.dim() != 4 or parameter.is_contiguous():
                continue
            if parameter.grad is not None:
                parameter.grad = _like(parameter.grad, parameter)
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[name] = _like(value, parameter)


def in_plain_format(value: Any) -> Any:
    """The content of a checkpoint with all tensors in the plain format; what holds none of another stays what it is."""
    if isinstance(value, Tensor):
        return value.contiguous() if value.dim() == 4 and value.layout == torch.strided else value
    if isinstance(value, dict):
        # A shallow copy first: an optimiser gives out its own dicts, and a state dict has attributes.
        changed = {key: new for key, old in value.items() if (new := in_plain_format(old)) is not old}
        if changed:
            value = copy.copy(value)
            value.update(changed)
        return value
    if type(value) in (list, tuple):
        items = [in_plain_format(item) for item in value]
        return type(value)(items) if any(new is not old for new, old in zip(items, value)) else value
    return value


class GradientDifferences:
    """How far gradients are from expected ones, compared as they come.

    Each gradient is let go once it has been compared, and so is the expected one: there are never two whole sets of them.

    Args:
        expected: gradients by name; emptied as those to compare come.
    """

    def __init__(self, expected: Dict[str, Tensor]):
        self._expected = expected
        self._alone: List[str] = []
        self._compared: Dict[str, Tensor] = {}

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """Compares, and lets go, the gradients of a model's parameters while a backward pass makes them."""
        def compare(parameter: nn.Parameter, name: str) -> None:
            if parameter.grad is not None:
                self.add(name, parameter.grad)
                parameter.grad = None

        handles = [parameter.register_post_accumulate_grad_hook(partial(compare, name=name))
                   for name, parameter in model.named_parameters() if parameter.requires_grad]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def add(self, name: str, gradient: Tensor) -> None:
        """Compares one gradient. One that is not expected, or comes a second time, has nothing to be compared with."""
        expected = self._expected.pop(name, None)
        if expected is None:
            self._alone.append(name)
            return
        expected, gradient = expected.float(), gradient.float()
        both_broken = ~expected.isfinite().all() & ~gradient.isfinite().all()
        self._compared[name] = torch.stack([expected.norm(), (expected - gradient).norm(), both_broken.float()])

    def worst(self) -> Tuple[str, float]:
        """The parameter whose gradient differs most, and the difference relative to its norm.

        A gradient below a hundredth of the largest is compared with that (a bias before a norm has nothing but rounding).

        Returns:
            Name and difference; ``inf`` where a gradient is missing on one side, or not finite on one alone.
        """
        if alone := sorted([*self._alone, *self._expected]):
            return alone[0], math.inf
        if not self._compared:
            return '', 0.0
        norms, apart, both_broken = torch.stack([*self._compared.values()]).double().unbind(1)
        tiny = torch.finfo(torch.double).tiny
        relative = apart / norms.clamp(min=norms.nan_to_num(0, 0, 0).max() / 100).clamp(min=tiny)
        relative = relative.masked_fill(both_broken.bool(), 0).nan_to_num(math.inf)
        index = int(relative.argmax())
        return [*self._compared][index], float(relative[index])


def _overruns(module: nn.Conv2d) -> bool:
    """Whether torch 2.11 may write past its memory for it on a CPU (oneDNN's ``jit_1x1`` backward with respect to weights).

    With 4, 8 or 12 channels it ends in a segmentation fault or a corrupted heap; the rule leaves a distance to that.
    """
    return module.kernel_size == (1, 1) and max(module.stride) > 1 and module.in_channels % 16 != 0


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
