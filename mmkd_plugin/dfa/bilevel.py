"""Gradients of a validation loss with respect to what a training loss depends on (DARTS, Liu et al., ICLR 2019)."""
import math
import re
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Union

import torch
from torch import Tensor

from ..utils.torch_versions import plain_attention

Loss = Callable[[], Tensor]
MixedDerivative = Callable[[Loss, Tensor, Sequence[Tensor], Sequence[Tensor]], Tensor]
"""See :func:`exact_mixed_derivative`."""

PROBE = 0.01


class NoSecondDerivative(Exception):
    """An operation cannot be differentiated twice; its argument says which."""


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


def unrolled_gradient(val_loss: Loss, train_loss: Loss, beta: Tensor, steps: Sequence[VirtualStep],
                      scale: Union[float, Tensor] = 1.0, mixed: Optional[MixedDerivative] = None) -> Tensor:
    """dL_val(w', beta)/dbeta where ``w'`` is one training step from w, and depends on ``beta`` itself.

    ``dL_val(w', beta)/dbeta - d/dbeta <dL_train(w, beta)/dw, r * v>`` with ``v = dL_val/dw'`` and r the step's response: the
    second-order term of DARTS. Weights are put back bit for bit.

    Args:
        val_loss, train_loss: compute the loss anew, times ``scale``, from the weights and ``beta`` as they are when called.
        beta: (N,), a leaf that requires grad.
        steps: the virtual step of each weight.
        scale: the factor on both losses, for half precision; gradients are divided by it.
        mixed: takes the derivative of the inner product: :func:`exact_mixed_derivative` by default.

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
    finally:
        _put(weights, start)
    direct = _or_zero(direct, beta) / scale
    directions = [step.response * _or_zero(gradient, step.weight) / scale for step, gradient in zip(steps, outward)]
    norm = float(torch.stack([direction.norm() for direction in directions]).norm())
    if norm == 0:
        return direct
    if not math.isfinite(norm):
        return torch.full_like(beta, torch.nan)
    # Along the unit vector: rates may be so small that half precision would round what comes back to 0.
    units = [direction / norm for direction in directions]
    change = (mixed or exact_mixed_derivative)(train_loss, beta, weights, units)
    return direct - change * norm / scale


def exact_mixed_derivative(loss: Loss, beta: Tensor, weights: Sequence[Tensor], directions: Sequence[Tensor]) -> Tensor:
    """``d/dbeta <dL(w, beta)/dw, u>`` by differentiating the gradient once more.

    Args:
        loss: computes L from the weights and ``beta`` as they are.
        beta: (N,), a leaf that requires grad.
        weights: w.
        directions: u, a tensor for each weight.

    Returns:
        (N,).

    Raises:
        NoSecondDerivative: where an operation cannot be differentiated twice.
    """
    with plain_attention():
        slopes = torch.autograd.grad(loss(), weights, create_graph=True, allow_unused=True)
        pairs = [(slope, unit) for slope, unit in zip(slopes, directions) if slope is not None and slope.requires_grad]
        if not pairs:
            return torch.zeros_like(beta)
        dependent, units = zip(*pairs)
        _refuse_once_differentiable(dependent)
        try:
            return _or_zero(torch.autograd.grad(dependent, beta, units, allow_unused=True)[0], beta)
        except RuntimeError as error:  # NotImplementedError is one, which torch does not raise for each such operation
            missing = re.search(r"derivative for '?(?:aten::)?(\w+)'? is not implemented", str(error))
            if missing is None and not isinstance(error, NotImplementedError):
                raise
            raise NoSecondDerivative(missing[1] if missing else str(error)) from error


def _refuse_once_differentiable(slopes: Sequence[Tensor]) -> None:
    """Torch cuts the graph at a gradient that is differentiable once, and would leave its part out without a word."""
    waiting = [slope.grad_fn for slope in slopes if slope.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node.name() == 'torch::autograd::Error':
            raise NoSecondDerivative('a function marked with once_differentiable')
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def finite_mixed_derivative(loss: Loss, beta: Tensor, weights: Sequence[Tensor], directions: Sequence[Tensor]) -> Tensor:
    """The same by a central difference, DARTS' own: dL/dbeta at ``w + 0.01 u`` and ``w - 0.01 u``, u of norm 1.

    Weights are put back bit for bit. On networks with kinks (ReLU, max pooling) it may be off by more than its size: for
    networks with an operation that has no second derivative.

    Args:
        loss, beta, weights, directions: as those of :func:`exact_mixed_derivative`.

    Returns:
        (N,).
    """
    start = [weight.detach().clone() for weight in weights]

    def gradient_at(radius: float) -> Tensor:
        _put(weights, [value + radius * unit for value, unit in zip(start, directions)])
        return first_order_gradient(loss(), beta)

    try:
        return (gradient_at(PROBE) - gradient_at(-PROBE)) / (2 * PROBE)
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


def _or_zero(gradient: Optional[Tensor], like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
