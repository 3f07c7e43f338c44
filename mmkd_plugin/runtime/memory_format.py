"""The order in which a network's maps lie in memory: (B, C, H, W) as it stands, or with the channels last.

A convolution gives its output in the format of its input or, where that is plain, of its weight, and what comes after it
(norms, activations, pooling, sums) keeps the format. So the weights of the convolutions are all that is converted.
"""
import copy
from typing import Any, Dict, List, Tuple, Union

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


def gradients(model: nn.Module) -> Dict[str, Tensor]:
    """The gradients of a model's parameters by name, those that there are."""
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def differing_gradient(plain: Dict[str, Tensor], other: Dict[str, Tensor]) -> Tuple[str, float]:
    """The parameter whose gradient differs most, and the difference relative to its norm.

    A gradient below a hundredth of the largest is compared with that (a bias before a norm has nothing but rounding).

    Args:
        plain, other: gradients by name.

    Returns:
        Name and difference; ``inf`` where a gradient is missing on one side, or not finite on one alone.
    """
    if set(plain) != set(other):
        return sorted(set(plain) ^ set(other))[0], float('inf')
    names = list(plain)
    if not names:
        return '', 0.0
    norms = torch.stack([plain[name].double().norm() for name in names])
    apart = torch.stack([(plain[name].double() - other[name].double()).norm() for name in names])
    relative = apart / norms.clamp(min=norms.nan_to_num(0, 0, 0).max() / 100).clamp(min=torch.finfo(torch.double).tiny)
    both = [not bool(plain[name].isfinite().all()) and not bool(other[name].isfinite().all()) for name in names]
    relative = relative.masked_fill(torch.tensor(both, device=relative.device), 0).nan_to_num(float('inf'))
    worst = int(relative.argmax())
    return names[worst], float(relative[worst])


def _overruns(module: nn.Conv2d) -> bool:
    """Whether torch 2.11 may write past its memory for it on a CPU (oneDNN's ``jit_1x1`` backward with respect to weights).

    With 4, 8 or 12 channels it ends in a segmentation fault or a corrupted heap; the rule leaves a distance to that.
    """
    return module.kernel_size == (1, 1) and max(module.stride) > 1 and module.in_channels % 16 != 0


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
