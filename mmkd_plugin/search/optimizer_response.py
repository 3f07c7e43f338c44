"""How an optimiser's step depends on the gradient it is made with: exactly, from what the optimiser holds after the step.

A search asks how weights would have moved with a slightly different gradient. For the optimisers below each weight's step
depends on its own gradient only, so the derivative is a diagonal R: ``theta' = theta - s(g)``, ``R = ds/dg``. Before that,
clipping by norm multiplies the gradient by ``c(||g||) = max_norm / (||g|| + 1e-6)``; its derivative is c times the identity
less a matrix of rank one. Both are symmetric, so the same functions take a direction forth and back.
"""
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

Rate = Union[float, Tensor]
Group = Mapping[str, Any]
State = Mapping[str, Any]
CLIP_EPS = 1e-6
"""What ``torch.nn.utils.clip_grad_norm_`` adds to the norm."""


def sgd_response(group: Group, state: State, gradient: Tensor, first: bool) -> Rate:
    """R of torch's SGD: a number, lr times what of the gradient the step takes.

    Args:
        group: the options of the weight's group.
        state: what the optimiser holds for the weight after the step.
        gradient: g, of the weight's shape, with weight decay.
        first: whether it was the first step of the weight.
    """
    momentum, lr = group['momentum'], group['lr']
    if not momentum:
        return lr  # type: ignore[no-any-return]  # options are not typed
    taken = 1.0 if first else 1 - group['dampening']  # the first gradient becomes the momentum undamped
    return lr * (1 + momentum * taken if group['nesterov'] else taken)  # type: ignore[no-any-return]


def adam_response(group: Group, state: State, gradient: Tensor, first: bool) -> Rate:
    """R of Adam and AdamW, with amsgrad or without; the arguments are those of :func:`sgd_response`.

    With m and v after the step, ``D = sqrt(v / bias2) + eps``:
    ``R = lr / bias1 * ((1 - b1) / D - m (1 - b2) g / (sqrt(v bias2) D^2))``. 0 for a weight without any gradient so far.
    """
    beta1, beta2 = group['betas']
    step = _steps(state)
    bias1, bias2 = 1 - beta1 ** step, 1 - beta2 ** step
    second = state['max_exp_avg_sq'] if group['amsgrad'] else state['exp_avg_sq']
    root = second.sqrt()
    deviation = root / bias2 ** 0.5 + group['eps']
    by_second = state['exp_avg'] * gradient * ((1 - beta2) / bias2 ** 0.5) / (root * deviation.square())
    if group['amsgrad']:  # an older maximum does not depend on this gradient
        by_second = torch.where(state['exp_avg_sq'] == second, by_second, 0)
    return torch.where(second > 0, ((1 - beta1) / deviation - by_second) * (group['lr'] / bias1), 0)


def rmsprop_response(group: Group, state: State, gradient: Tensor, first: bool) -> Rate:
    """R of RMSprop, centred or not, with momentum or without; the arguments are those of :func:`sgd_response`.

    With v (less the squared mean m where centred) after the step, ``D = sqrt(v) + eps``:
    ``R = lr (1 / D - (1 - alpha) g (g - m) / (sqrt(v) D^2))``.
    """
    mean = state['grad_avg'] if group['centered'] else 0
    variance = state['square_avg'] - mean * mean
    root = variance.clamp(min=0).sqrt()
    deviation = root + group['eps']
    by_variance = gradient * (gradient - mean) * (1 - group['alpha']) / (root * deviation.square())
    return torch.where(root > 0, (1 / deviation - by_variance) * group['lr'], 0)


def adagrad_response(group: Group, state: State, gradient: Tensor, first: bool) -> Rate:
    """R of Adagrad; the arguments are those of :func:`sgd_response`.

    With v, the sum of squares, after the step, ``D = sqrt(v) + eps``: ``R = lr_t (1 / D - g^2 / (sqrt(v) D^2))``.
    """
    root = state['sum'].sqrt()
    deviation = root + group['eps']
    rate = group['lr'] / (1 + (_steps(state) - 1) * group['lr_decay'])
    return torch.where(root > 0, (1 / deviation - gradient.square() / (root * deviation.square())) * rate, 0)


RESPONSES: Dict[type, Callable[[Group, State, Tensor, bool], Rate]] = {
    torch.optim.SGD: sgd_response, torch.optim.Adam: adam_response, torch.optim.AdamW: adam_response,
    torch.optim.RMSprop: rmsprop_response, torch.optim.Adagrad: adagrad_response}
"""By class of the optimiser, the derivative of its step by its gradient."""


def _steps(state: State) -> Any:
    step = state['step']
    # On another device it is not waited for.
    return step if not isinstance(step, Tensor) else step.item() if step.device.type == 'cpu' else step.double()


class Clipping(NamedTuple):
    """How gradients are clipped before a step.

    Attributes:
        most: ``max_norm``, or ``clip_value``.
        by_value: whether each number is clipped by itself.
        norm: in a step, the norm of all gradients before they were clipped.
    """
    most: float
    by_value: bool
    norm: Callable[[], float]


def clipping_of(wrapper: OptimWrapper) -> Optional[Clipping]:
    """How an optimiser wrapper clips gradients; None if it does not, or by another norm than the Euclidean one."""
    given = wrapper.clip_grad_kwargs
    if not given:
        return None
    if wrapper.grad_name == 'grad_value':
        return Clipping(float(given['clip_value']), True, lambda: 0.0)
    if float(given.get('norm_type', 2)) != 2:
        return None
    return Clipping(float(given['max_norm']), False,
                    lambda: float(wrapper.message_hub.get_scalar(f'train/{wrapper.grad_name}').current()))


class StepResponse(NamedTuple):
    """The derivative of one step by the gradient it was made with, before clipping.

    Attributes:
        rates: R by name of the weight.
        gradients: the gradients after clipping, by name; only where they were clipped by their norm.
        factor: c, 1 where nothing was clipped.
        norm: ||g|| before clipping.
    """
    rates: Dict[str, Rate]
    gradients: Dict[str, Tensor]
    factor: float = 1.0
    norm: float = 0.0

    @property
    def couples(self) -> bool:
        """Whether the step of a weight depends on the gradients of others."""
        return bool(self.gradients)

    def direction(self, gradients: Mapping[str, Tensor]) -> Dict[str, Tensor]:
        """What a loss's gradient at the weights after the step becomes as its gradient by the gradient of the step, but for
        the sign; by name.

        Args:
            gradients: v by name of the weight. A weight that is missing has v = 0; all that the step moves have to be
                there where it couples them.
        """
        by_rate = {name: gradient * self.rates[name] for name, gradient in gradients.items() if name in self.rates}
        if not self.couples:
            return by_rate
        inner = sum((self.gradients[name] * value).sum() for name, value in by_rate.items() if name in self.gradients)
        # In clipped gradients c g: g g^T / ||g|| / (||g|| + eps) * c = (c g) (c g)^T / (c ||g|| (||g|| + eps)).
        along = inner / (self.factor * self.norm * (self.norm + CLIP_EPS))
        return {name: by_rate.get(name, 0) * self.factor - gradient * along for name, gradient in self.gradients.items()}


class StepWatch:
    """Watches the next step of an optimiser, and finds out how it depends on its gradient.

    Args:
        optimizer: the optimiser that is going to step.
        weights: those by which a loss after the step may have a gradient, by name.
        others: those that are clipped together with them, by name.
        clipping: how the gradients are clipped before.

    Attributes:
        response: None before the step, and for one that is left out (as where half precision overflows).
        is_exact: whether the optimiser is one of ``RESPONSES``; otherwise R is the learning rate.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor],
                 others: Optional[Mapping[str, Tensor]] = None, clipping: Optional[Clipping] = None):
        self.response: Optional[StepResponse] = None
        self._rule = RESPONSES.get(type(optimizer))
        self.is_exact = self._rule is not None
        self._clipping = clipping
        self._groups: List[Tuple[str, Tensor, Group]] = []
        self._others = others or {}
        by_identity = {id(weight): name for name, weight in weights.items()}
        for group in optimizer.param_groups:
            self._groups += [(by_identity[id(weight)], weight, group) for weight in group['params']
                             if id(weight) in by_identity]
        self._first = {name for name, weight, _ in self._groups if not optimizer.state.get(weight)}
        # For weight decay, which is part of the gradient: the weights are others after the step.
        self._decay = {name: weight.detach().clone() for name, weight, group in self._groups if _decays(optimizer, group)
                       and self._rule is not sgd_response}
        self._handle = optimizer.register_step_post_hook(self._after)

    def forget(self) -> None:
        """Watches no longer."""
        self._handle.remove()

    @torch.no_grad()
    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._handle.remove()
        moved = {name: weight.grad for name, weight, _ in self._groups if weight.grad is not None}
        rates = {name: self._rate(optimizer, name, weight, group) for name, weight, group in self._groups if name in moved}
        if self._clipping is None:
            self.response = StepResponse(rates, {})
        elif self._clipping.by_value:
            inside = {name: gradient.abs() < self._clipping.most for name, gradient in moved.items()}
            self.response = StepResponse({name: rate * inside[name] for name, rate in rates.items()}, {})
        else:
            norm = self._clipping.norm()
            factor = self._clipping.most / (norm + CLIP_EPS)
            moved.update({name: weight.grad for name, weight in self._others.items() if weight.grad is not None})
            clipped = {name: gradient.clone() for name, gradient in moved.items()} if factor < 1 else {}
            self.response = StepResponse(rates, clipped, min(1.0, factor), norm)

    def _rate(self, optimizer: torch.optim.Optimizer, name: str, weight: Tensor, group: Group) -> Rate:
        if self._rule is None:
            return group['lr']  # type: ignore[no-any-return]
        sign = -1 if group.get('maximize') else 1
        assert weight.grad is not None, 'only weights with a gradient are asked for'
        gradient = weight.grad * sign
        if name in self._decay:
            gradient = gradient + self._decay[name] * group['weight_decay']
        return self._rule(group, optimizer.state[weight], gradient, name in self._first) * sign


def _decays(optimizer: torch.optim.Optimizer, group: Group) -> bool:
    """Whether weight decay is part of the gradient."""
    decoupled = group.get('decoupled_weight_decay', isinstance(optimizer, torch.optim.AdamW))
    return bool(group.get('weight_decay')) and not decoupled
