"""Which batch norms of a network can be folded into the convolution before them, found by watching one forward.

In eval mode a batch norm is ``y * scale + shift`` by channel, which the convolution's own weight and bias can do. That is
the same only where nobody else sees what the convolution gives: a tap, a shortcut, a second norm. So a forward is watched,
and every operation on a convolution's output is noted, whoever makes it.
"""
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks.wrappers import Conv2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.hooks import RemovableHandle

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2d, Conv2dAdaptivePadding)
"""Classes (not what derives from them) whose output is linear in ``weight`` as it stands: no standardised ones."""


@dataclass(frozen=True)
class Pair:
    """A convolution, and the batch norm that alone takes what it gives."""
    conv: nn.Module
    norm: _BatchNorm

    def folded(self) -> Tuple[Tensor, Tensor]:
        """Weight and bias of the convolution that does what the two do: ``w * s`` and ``shift + (bias - mean) * s``.

        ``s = gamma / sqrt(var + eps)``, in float64 until it is multiplied.
        """
        weight, bias, norm = self.conv.weight, self.conv.bias, self.norm
        assert isinstance(weight, Tensor), 'a convolution has one'
        assert norm.running_var is not None, 'one without statistics is no part of a pair'
        assert norm.running_mean is not None, 'it comes with the variance'
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        shift = -norm.running_mean.double()
        if isinstance(bias, Tensor):
            shift = shift + bias.double()
        shift = shift * scale
        if norm.bias is not None:
            shift = shift + norm.bias.double()
        scale = scale.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))
        return weight.detach() * scale, shift.to(weight.dtype).detach()


def foldable_pairs(model: nn.Module, forward: Callable[[], Iterable[Tensor]]) -> List[Pair]:
    """The pairs that can be folded, in the order in which they ran.

    A module that is run several times (a head on several levels) is folded if it is followed by the same norm every time.

    Args:
        model: the network, in eval mode.
        forward: runs it once as it is going to be used, without gradients, and returns what is kept of the forward.
    """
    watch = _Watch(model)
    with watch:
        kept = list(forward())
    return watch.pairs(kept)


class _Watch(TorchDispatchMode):
    """Notes what becomes of the output of each convolution; it holds the outputs, so that none takes another's place."""

    def __init__(self, model: nn.Module):
        super().__init__()  # type: ignore[no-untyped-call]
        self._convs = [module for module in model.modules() if _may_take(module)]
        self._norms = [module for module in model.modules() if _may_go(module)]
        self._outputs: Dict[int, Tuple[nn.Module, Tensor]] = {}
        self._readers: Dict[int, List[Optional[nn.Module]]] = {}
        self._others: Dict[nn.Module, int] = {}
        self._running: Optional[nn.Module] = None
        self._handles: List[RemovableHandle] = []

    def __enter__(self) -> Any:
        # Before any hook of a tap, which may clone what it takes: that is an operation, too.
        for conv in self._convs:
            self._handles.append(conv.register_forward_hook(self._after_conv, prepend=True))
        for norm in self._norms:
            self._handles.append(norm.register_forward_pre_hook(self._before_norm, prepend=True))
            self._handles.append(norm.register_forward_hook(self._after_norm, prepend=True))
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> Any:
        for handle in self._handles:
            handle.remove()
        return super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        normalises = 'batch_norm' in str(operation)
        for value in tree_flatten((args, kwargs))[0]:
            if isinstance(value, Tensor) and id(value) in self._outputs:
                self._readers.setdefault(id(value), []).append(self._running if normalises else None)
        return operation(*args, **(kwargs or {}))

    def _after_conv(self, conv: nn.Module, args: Any, output: Tensor) -> None:
        self._outputs[id(output)] = (conv, output)

    def _before_norm(self, norm: nn.Module, args: Any) -> None:
        self._running = norm
        if not args or id(args[0]) not in self._outputs:
            self._others[norm] = self._others.get(norm, 0) + 1

    def _after_norm(self, norm: nn.Module, args: Any, output: Tensor) -> None:
        self._running = None

    def pairs(self, kept: Iterable[Tensor]) -> List[Pair]:
        """What can be folded, if these tensors are kept of the forward."""
        places = {tensor.untyped_storage().data_ptr() for tensor in kept}
        norms: Dict[nn.Module, List[Optional[nn.Module]]] = {}
        convs: Dict[nn.Module, List[nn.Module]] = {}
        for number, (conv, output) in self._outputs.items():
            readers = self._readers.get(number, [])
            alone = len(readers) == 1 and output.untyped_storage().data_ptr() not in places
            norm = readers[0] if alone else None
            norms.setdefault(conv, []).append(norm)
            if norm is not None:
                convs.setdefault(norm, []).append(conv)
        found = []
        for conv, followers in norms.items():
            norm = followers[0]
            if isinstance(norm, _BatchNorm) and set(followers) == {norm} and set(convs[norm]) == {conv} and (
                    norm not in self._others) and norm.num_features == len(conv.weight):  # type: ignore[arg-type]
                found.append(Pair(conv, norm))
        return found


def _may_take(module: nn.Module) -> bool:
    return type(module) in LINEAR and _is_as_built(module)


def _may_go(module: nn.Module) -> bool:
    return (isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward and not module.training
            and module.running_mean is not None and module.running_var is not None and _is_as_built(module))


def _is_as_built(module: nn.Module) -> bool:
    """Whether nobody has hung a hook on it (weight and spectral norm do), or put something in the place of its forward."""
    return not (module._forward_hooks or module._forward_pre_hooks or 'forward' in vars(module))
