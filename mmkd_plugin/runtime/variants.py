"""Ways to hold a network that give the same features: its batch norms folded, in channels_last, in half precision."""
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ContextManager, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..taps import widened
from ..utils.torch_versions import autocast_dtype
from .folding import Pair


@dataclass(frozen=True)
class Variant:
    """A way to hold a network; the plain one by default.

    Attributes:
        fold_bn: whether batch norms are folded into the convolutions before them, where that can be done.
        channels_last: whether kernels, and the images it is given, are in ``torch.channels_last``.
        dtype: what its weights and images are in; None: as they are.
    """
    fold_bn: bool = False
    channels_last: bool = False
    dtype: Optional[torch.dtype] = None

    def __str__(self) -> str:
        names = [name for name in ('fold_bn', 'channels_last') if getattr(self, name)]
        names += [] if self.dtype is None else [str(self.dtype).split('.')[-1]]
        return ' + '.join(names) or 'plain'

    def context(self, images: Tensor) -> ContextManager[object]:
        """In what the network runs: autocast in its precision, where it has one, for what is better done in float32."""
        return nullcontext() if self.dtype is None else torch.autocast(images.device.type, self.dtype)

    def images(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) as the network takes them."""
        if self.dtype is not None and images.is_floating_point():
            images = images.to(self.dtype)
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def feature(self, feature: Tensor, images: Tensor) -> Tensor:
        """A feature as others of the step are, in the network's memory format; half only under autocast."""
        if self.dtype is not None and autocast_dtype(images.device.type) is None:
            return widened(feature)
        return feature


PLAIN = Variant()
TOLERANCE = 1e-5
"""How far features in float32 may be from the plain network's; see :func:`difference`."""


class Holder:
    """Holds a network in one variant after the other, and goes back exactly.

    Its modules and their names stay; parameters are replaced, and a batch norm that is folded passes on what it is given.
    While variants are tried it keeps what it has replaced: beside the plain network there is at most one other.

    Args:
        model: the network.
        pairs: which batch norms can be folded.

    Attributes:
        variant: the present one.
        pairs: as given.
    """

    def __init__(self, model: nn.Module, pairs: Sequence[Pair]):
        self._model, self.pairs = model, list(pairs)
        self._replaced: Dict[Tuple[nn.Module, str], Optional[Tensor]] = {}
        self._tries = True
        self.variant = PLAIN

    def hold(self, variant: Variant) -> None:
        """Holds the network in a variant; made from the plain network, whatever it was in before."""
        if variant == self.variant:
            return
        self._go_back()
        if variant.fold_bn:
            self._fold()
        if variant.channels_last or variant.dtype is not None:
            self._convert(variant)
        self.variant = variant

    def stay_with(self, variant: Variant) -> None:
        """Holds it in a variant from now on: what was replaced is let go, and there is no way back."""
        if variant != self.variant:
            self._go_back()
            self._tries = False
            self.hold(variant)
        self._tries = False
        self._replaced.clear()

    def _go_back(self) -> None:
        assert self._tries or self.variant == PLAIN, 'there is no way back'
        for (module, name), tensor in self._replaced.items():
            _place(module, name)[name] = tensor
        if self.variant.fold_bn:
            for pair in self.pairs:
                del vars(pair.norm)['forward']
        self._replaced.clear()
        self.variant = PLAIN

    def _put(self, module: nn.Module, name: str, tensor: Tensor) -> None:
        place = _place(module, name)
        if self._tries:
            self._replaced.setdefault((module, name), place[name])
        place[name] = nn.Parameter(tensor, requires_grad=False) if place is module._parameters else tensor

    def _fold(self) -> None:
        for pair in self.pairs:
            weight, bias = pair.folded()
            self._put(pair.conv, 'weight', weight)
            self._put(pair.conv, 'bias', bias)
            vars(pair.norm)['forward'] = passed_on  # beside the class's own, so that it can go again

    def _convert(self, variant: Variant) -> None:
        made: Dict[int, Tensor] = {}  # tied weights stay tied
        for module in self._model.modules():
            for name, tensor in _tensors(module):
                if id(tensor) not in made:
                    made[id(tensor)] = _converted(tensor, variant, isinstance(module, _BatchNorm))
                if made[id(tensor)] is not tensor:
                    self._put(module, name, made[id(tensor)])


def passed_on(features: Tensor) -> Tensor:
    """The forward of a batch norm that is folded into the convolution before it."""
    return features


def _place(module: nn.Module, name: str) -> Dict[str, Any]:
    return module._parameters if name in module._parameters else module._buffers


def _tensors(module: nn.Module) -> List[Tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in [*module._parameters.items(), *module._buffers.items()] if tensor is not None]


def _converted(tensor: Tensor, variant: Variant, is_norm: bool) -> Tensor:
    """A weight as a variant holds it; itself where that is how it is. Statistics of batch norms keep their precision."""
    found = tensor.detach()
    if variant.dtype is not None and tensor.is_floating_point() and not is_norm:
        found = found.to(variant.dtype)
    if variant.channels_last and isinstance(tensor, nn.Parameter) and tensor.dim() == 4:
        found = found.contiguous(memory_format=torch.channels_last)
    same = found.dtype == tensor.dtype and found.stride() == tensor.stride()
    return tensor if same else found


def difference(features: Iterable[Tensor], plain: Iterable[Tensor]) -> float:
    """The largest difference between features and the plain network's, as a part of the largest magnitude of each.

    Infinite where one of them is not finite.
    """
    largest = 0.0
    for mine, other in zip(features, plain):
        part = ((mine.double() - other.double()).abs().max() / other.double().abs().max().clamp_min(1e-30)).item()
        largest = max(largest, part) if part == part else float('inf')
    return largest
