"""What the training forward computed, kept so that a forward-mode pass over the same batch need not compute it again.

A convolution is linear in its input and in its weight, so the tangent of its output takes two convolutions; that its output
itself is computed anew for the pass would be a third. Of a batch norm the statistics are kept: its derivative by the input
is the operator of its backward (which is symmetric, but for the channel's own factor), for which torch has a fused kernel.
"""
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

LINEAR = {F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
"""Functions of (input, weight, bias, ...), linear in the first two."""
BATCH_NORM = ('input', 'running_mean', 'running_var', 'weight', 'bias', 'training', 'momentum', 'eps')
BATCH_NORM_DEFAULTS = dict(weight=None, bias=None, training=False, momentum=0.1, eps=1e-5)


class Entry(NamedTuple):
    """One call: what tells it from others, and what is kept of it.

    ``kept`` is the output of a linear function, or mean and 1 / standard deviation (C,) of a batch norm.
    """
    function: Callable[..., Any]
    shape: Tuple[int, ...]
    weight: int
    kept: Sequence[Tensor]
    version: int


class ForwardTape(TorchFunctionMode):
    """Notes the costly operations of the forward that runs inside, in order.

    Args:
        complete: whether what comes now is of no use any more.
    """

    def __init__(self, complete: Callable[[], bool]) -> None:
        super().__init__()
        self.entries: List[Entry] = []
        self._complete = complete

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if not (function in LINEAR or function is F.batch_norm) or self._complete():
            return output
        call = _arguments(function, args, kwargs or {})
        kept: Sequence[Tensor] = ()
        if function in LINEAR:
            # Without a gradient it is the first pass of an activation checkpoint, which means to keep nothing.
            kept = (output.detach(),) if output.requires_grad else ()
        elif call['training']:
            # mean and 1 / standard deviation, which autograd keeps for the backward
            kept = [saved for number in (1, 2)
                    if isinstance(saved := getattr(output.grad_fn, f'_saved_result{number}', None), Tensor)]
        self.entries.append(Entry(function, tuple(call['input'].shape), id(call['weight']), kept, output._version))
        return output


class TapeReplay(TorchFunctionMode):
    """Inside, the same forward runs on dual tensors, with what the tape has in place of what it would compute again.

    A call that is not the one that was noted in its place ends that: from there on everything is computed, which is right
    in any case.

    Args:
        tape: what the training forward has left.
        weights: which weight of that forward a tensor stands for here, by the identities of both.
    """

    def __init__(self, tape: ForwardTape, weights: Mapping[int, int]):
        super().__init__()
        self._entries: Optional[List[Entry]] = tape.entries
        self._weights = weights
        self._next = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in LINEAR or function is F.batch_norm:
            call = _arguments(function, args, kwargs)
            entry = self._entry(function, call)
            output = None
            if entry is not None:
                output = _linear(entry, call, args, kwargs) if function in LINEAR else _batch_norm(entry, call)
            if output is not None:
                return output
        return function(*args, **kwargs)

    def _entry(self, function: Any, call: Mapping[str, Any]) -> Optional[Entry]:
        if self._entries is None or self._next == len(self._entries):
            return None
        entry = self._entries[self._next]
        self._next += 1
        weight = id(call['weight'])
        if (entry.function, entry.shape, entry.weight) != (function, tuple(call['input'].shape),
                                                          self._weights.get(weight, weight)):
            self._entries = None
            return None
        return entry


def _arguments(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    names = BATCH_NORM if function is F.batch_norm else ('input', 'weight', 'bias')
    defaults = BATCH_NORM_DEFAULTS if function is F.batch_norm else dict(bias=None)
    return {**defaults, **dict(zip(names, args)), **{name: kwargs[name] for name in names if name in kwargs}}


def _parts(value: Optional[Tensor]) -> Tuple[Optional[Tensor], Optional[Tensor]]:
    return (None, None) if value is None else forward_ad.unpack_dual(value)


def _dual(primal: Tensor, tangent: Optional[Tensor]) -> Tensor:
    dual: Tensor = primal if tangent is None else forward_ad.make_dual(primal, tangent)
    return dual


def _linear(entry: Entry, call: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Optional[Tensor]:
    """f(x, W) + b with the tangent f(dx, W) + f(x, dW) + db; None where the output is not kept as it was."""
    if not entry.kept or entry.kept[0]._version != entry.version:
        return None
    (x, dx), (weight, dweight), (_, dbias) = (_parts(call[name]) for name in ('input', 'weight', 'bias'))
    if dbias is not None and dweight is None:
        return None
    more = args[3:], {name: value for name, value in kwargs.items() if name not in ('input', 'weight', 'bias')}

    def apply(left: Any, right: Any, bias: Optional[Tensor]) -> Tensor:
        moved: Tensor = entry.function(left, right, bias, *more[0], **more[1])
        return moved

    output = entry.kept[0]
    if dx is None and dweight is None:
        return output
    if dweight is None:
        return _dual(output, apply(dx, weight, None))
    tangent = apply(x, dweight, dbias)
    return _dual(output, tangent if dx is None else tangent.add_(apply(dx, weight, None)))


def _batch_norm(entry: Entry, call: Mapping[str, Any]) -> Optional[Tensor]:
    """(x - mean) / std * weight + bias with its tangent; None where it has to be computed otherwise."""
    (x, dx), (weight, dweight), (bias, dbias) = (_parts(call[name]) for name in ('input', 'weight', 'bias'))
    assert x is not None, 'an input is always given'
    if not call['training'] or len(entry.kept) != 2 or any(
            part is not None and part.dtype != x.dtype for part in (weight, bias, *entry.kept)):
        return None
    mean, scale = entry.kept
    shape = (1, -1, *[1] * (x.dim() - 2))

    def affine(factor: Optional[Tensor], shift: Optional[Tensor]) -> Tensor:
        factor = scale if factor is None else factor * scale
        shift = -mean * factor if shift is None else shift - mean * factor
        return (x * factor.view(shape)).add_(shift.view(shape))  # faster than addcmul

    tangent = None
    if dx is not None:
        tangent = torch.ops.aten.native_batch_norm_backward(
            dx, x, weight, None, None, mean, scale, True, call['eps'], [True, False, False])[0]
    if dweight is not None or dbias is not None:
        more = affine(torch.zeros_like(scale) if dweight is None else dweight, dbias)
        tangent = more if tangent is None else tangent.add_(more)
    return _dual(affine(weight, bias), tangent)
