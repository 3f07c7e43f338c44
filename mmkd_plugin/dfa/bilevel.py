"""Gradients of a validation loss with respect to what a training loss depends on (DARTS, Liu et al., ICLR 2019)."""
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Union

import torch
from torch import Tensor

PROBE = 0.01


@dataclass(frozen=True)
class VirtualStep:
    """What the next training step does to a weight: a step of SGD, before any clipping of gradients.

    Attributes:
        weight: the weight, which is moved in place.
        rate: the learning rate.
        decay: the weight decay.
        momentum, dampening, nesterov: as SGD has them.
        buffer: its momentum buffer, None before the first step.
    """
    weight: Tensor
    rate: float
    decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    buffer: Optional[Tensor] = None

    @property
    def response(self) -> float:
        """How far the weight moves against a unit of its gradient."""
        if not self.momentum:
            return self.rate
        share = 1.0 if self.buffer is None else 1 - self.dampening
        return self.rate * (1 + self.momentum * share if self.nesterov else share)


def first_order_gradient(val_loss: Tensor, beta: Tensor) -> Tensor:
    """dL_val/dbeta at the present weights; 0 where the loss does not depend on ``beta``. No weight gets a gradient."""
    return _or_zero(torch.autograd.grad(val_loss, beta, allow_unused=True)[0], beta)


def unrolled_gradient(val_loss: Callable[[], Tensor], train_loss: Callable[[], Tensor], beta: Tensor,
                      steps: Sequence[VirtualStep], scale: Union[float, Tensor] = 1.0) -> Tensor:
    """dL_val(w', beta)/dbeta where ``w'`` is one training step from w, and depends on ``beta`` itself.

    ``dL_val(w', beta)/dbeta - (dL_train(w+)/dbeta - dL_train(w-)/dbeta) / (2 eps)`` with ``w+- = w +- eps * r * v``,
    ``v = dL_val/dw'``, r the step's response and ``eps = 0.01 / |r * v|``: the second-order term of DARTS by finite
    differences. Weights are put back bit for bit.

    Args:
        val_loss, train_loss: compute the loss anew, times ``scale``, from the weights and ``beta`` as they are when called.
        beta: (N,), a leaf that requires grad.
        steps: the virtual step of each weight.
        scale: the factor on both losses, for half precision; gradients are divided by it.

    Returns:
        (N,); NaN where a scaled gradient of a weight has overflown.
    """
    weights = [step.weight for step in steps]
    start = [weight.detach().clone() for weight in weights]
    try:
        slopes = [_or_zero(slope, weight) for weight, slope in zip(
            weights, torch.autograd.grad(train_loss(), weights, allow_unused=True))]
        if not bool(torch.stack([slope.isfinite().all() for slope in slopes]).all()):
            return torch.full_like(beta, torch.nan)  # a forward at such weights would be reported as the model's own
        for step, slope in zip(steps, slopes):
            _move(step, slope / scale)
        direct, *outward = torch.autograd.grad(val_loss(), [beta, *weights], allow_unused=True)
        direct = _or_zero(direct, beta) / scale
        probe = [step.response * _or_zero(gradient, step.weight) / scale for step, gradient in zip(steps, outward)]
        norm = torch.stack([direction.norm() for direction in probe]).norm()
        if float(norm) == 0:
            return direct
        epsilon: Tensor = PROBE / norm
        ahead = _beta_gradient_at(train_loss, beta, weights, start, probe, epsilon)
        behind = _beta_gradient_at(train_loss, beta, weights, start, probe, -epsilon)
        return direct - (ahead - behind) / (2 * epsilon * scale)
    finally:
        _put(weights, start)


def virtual_steps(optimizer: torch.optim.Optimizer) -> List[VirtualStep]:
    """The optimiser's next step for each of its weights: as SGD takes it; for others, plain descent at their rate."""
    steps = []
    for group in optimizer.param_groups:
        momentum = float(group.get('momentum', 0) or 0)
        for weight in group['params']:
            if weight.requires_grad:
                buffer = optimizer.state.get(weight, {}).get('momentum_buffer') if momentum else None
                steps.append(VirtualStep(weight, float(group['lr']), float(group.get('weight_decay', 0)), momentum,
                                         float(group.get('dampening', 0)), bool(group.get('nesterov', False)), buffer))
    return steps


@torch.no_grad()
def _move(step: VirtualStep, slope: Tensor) -> None:
    step.weight.sub_(step.response * (slope + step.decay * step.weight))
    if step.momentum and step.buffer is not None:
        step.weight.sub_(step.rate * step.momentum ** (2 if step.nesterov else 1) * step.buffer)


@torch.no_grad()
def _put(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values):
        weight.copy_(value)


def _beta_gradient_at(train_loss: Callable[[], Tensor], beta: Tensor, weights: Sequence[Tensor], start: Sequence[Tensor],
                      probe: Sequence[Tensor], epsilon: Tensor) -> Tensor:
    _put(weights, [value + epsilon * direction for value, direction in zip(start, probe)])
    return first_order_gradient(train_loss(), beta)


def _or_zero(gradient: Optional[Tensor], like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
