"""A layer group while it is searched or distilled: its 1x1 connectors and its aggregation weights."""
import math
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ..losses import masked_norm
from ..taps import FeatureSum, TapInfo
from ..taps.shapes import as_map, resize
from ..utils.errors import DistillationError
from .aggregation import aggregate, aggregation_weights, unit_rms
from .groups import LayerGroup

CONNECTOR_NORMS = ('BN', 'SyncBN')
BETA_SCALE = 1e-3


def connector(inputs: int, outputs: int, norm: Optional[str]) -> 'Connector':
    """A 1x1 convolution and a norm; without one the convolution has a bias. Weights are N(0, 2 / outputs) (Heo et al.).

    Maps (B, inputs, H, W) to (B, outputs, H, W).
    """
    convolution = nn.Conv2d(inputs, outputs, 1, bias=norm is None)
    nn.init.normal_(convolution.weight, 0, math.sqrt(2 / outputs))
    return Connector(convolution) if norm is None else Connector(convolution, build_norm_layer(dict(type=norm), outputs)[1])


class Connector(nn.Sequential):
    """A convolution and, perhaps, a norm, which can take its statistics from the cells that count alone."""

    def forward(self, feature: Tensor, valid: Optional[Tensor] = None) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W).

        Args:
            feature: the map.
            valid: (B, 1, H, W) bool, the cells that count; None for all.
        """
        moved: Tensor = self[0](feature)
        return masked_norm(self[1], moved, valid) if len(self) > 1 else moved


class ConnectedGroup(nn.Module):
    """One group with its connectors and its weights.

    ``beta`` is a buffer and not a parameter: the run's optimiser, DDP's reducer and weight decay never see it.

    Args:
        group: the group.
        owner: name of the distiller.
        student, teacher: what the dry run found out about its taps.
        norm: type of the connectors' norm, None for no norm.
        resize: whether an aggregation of another resolution is resized to the student's.
        normalise: whether each layer is divided by its root mean square in the batch before it is summed up.
        weights: the fixed aggregation weights; None to search them.
        seed: decides the first beta, which is drawn from N(0, 1e-6).

    Raises:
        DistillationError: for teacher layers of several shapes, or another resolution than the student's.

    Attributes:
        beta: (N,), from which the weights are made; only where they are searched.
        alpha: (N,), the fixed weights; only where there are some.
        to_teacher: takes the student's feature to the teacher's channels.
        to_student: takes the aggregation to the student's channels; only where the weights are searched.
    """
    beta: Tensor
    alpha: Tensor
    to_student: Connector

    def __init__(self, group: LayerGroup, owner: str, student: TapInfo, teacher: Sequence[TapInfo], norm: Optional[str],
                 resize: bool, normalise: bool, weights: Optional[Sequence[float]], seed: int):
        super().__init__()
        self.name, self.student, self.teacher = group.name, group.student, group.teacher
        named = ''.join(group.teacher[0].partition(':')[:2]) if ':' in group.teacher[0] else ''
        self.sum_name = f"{named}{owner}'s aggregation of {group.name}"
        self.resize, self.normalise = resize, normalise
        _check_shapes(group, student, teacher, resize)
        self.channels = teacher[0].channels
        self.to_teacher = connector(student.channels, self.channels, norm)
        if weights is None:
            self.to_student = connector(self.channels, student.channels, norm)
            generator = torch.Generator().manual_seed(seed)
            self.register_buffer('beta', torch.randn(len(teacher), generator=generator) * BETA_SCALE)
        else:
            self.register_buffer('alpha', torch.tensor(weights, dtype=torch.float64))
        self._live: Optional[Tensor] = None
        self._weights: Optional[List[float]] = None

    def __len__(self) -> int:
        return len(self.teacher)

    @property
    def searched(self) -> bool:
        """Whether there is anything to search: one layer alone has weight 1."""
        return hasattr(self, 'beta') and len(self) > 1

    @property
    def is_live(self) -> bool:
        """Whether aggregations carry gradients to beta at present: see :meth:`live`."""
        return self._live is not None

    @property
    def needs_layers(self) -> bool:
        """Whether an aggregation is made of the layers at present; else of their sum, made while the teacher runs."""
        return self.is_live or self.normalise

    def weights(self) -> List[float]:
        """The aggregation weights (N,), as numbers."""
        if self._weights is None:
            alpha = self.alpha if hasattr(self, 'alpha') else aggregation_weights(self.beta.double())
            self._weights = alpha.tolist()
        return self._weights

    def forget_weights(self) -> None:
        """Call it when beta has changed: :meth:`weights` remembers its numbers."""
        self._weights = None

    @contextmanager
    def live(self) -> Iterator[Tensor]:
        """Inside, aggregations carry gradients to the leaf (N,) that is yielded: beta itself, as a tensor of its own."""
        self._live = self.beta.detach().clone().requires_grad_()
        try:
            yield self._live
        finally:
            self._live = None

    def sums(self) -> FeatureSum:
        """The aggregation as a sum to be made while the teacher runs."""
        return FeatureSum(self.sum_name, dict(zip(self.teacher, self.weights())))

    def aggregation(self, teacher: Dict[str, Tensor], cells: Callable[[Tensor], Optional[Tensor]]) -> Tensor:
        """A (B, C_t, H, W), equation 2, from the teacher's features.

        Args:
            teacher: the layers where :attr:`needs_layers`, else their sum.
            cells: gives the cells of a map that count, (B, 1, H, W) bool, or None for all.
        """
        if not self.needs_layers:
            return as_map(teacher[self.sum_name])
        layers = [as_map(teacher[address]) for address in self.teacher]
        if self.normalise:
            layers = [unit_rms(layer, cells(layer)) for layer in layers]
        return aggregate(layers, self.weights() if self._live is None else aggregation_weights(self._live))

    def fitted(self, aggregation: Tensor, student: Tensor) -> Tensor:
        """The aggregation at the resolution of the student's feature. Raises :class:`DistillationError` if not allowed."""
        if self.resize or aggregation.shape[2:] == student.shape[2:]:
            return resize(aggregation, student.shape[2:], 'bilinear')
        raise _other_size(self, tuple(student.shape[2:]), tuple(aggregation.shape[2:])).at('pairs')

    def describe(self) -> str:
        """Which layers, and with which weights if they are fixed, in one line."""
        layers = self.teacher[0] if len(self) == 1 else f'{self.teacher[0]} ... {self.teacher[-1]} ({len(self)} layers)'
        fixed = f', weights {" ".join(f"{weight:.4f}" for weight in self.weights())}' if hasattr(self, 'alpha') else ''
        return f'{self.name}: student {self.student} with {layers}{fixed}'

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.forget_weights()


def _check_shapes(group: LayerGroup, student: TapInfo, teacher: Sequence[TapInfo], resize: bool) -> None:
    shapes = [(info.channels, *(info.size or ())) for info in teacher]
    if len(set(shapes)) > 1:
        listed = ', '.join(f'{info.address} {shape}' for info, shape in zip(teacher, shapes))
        raise DistillationError(f'{group.name} mixes shapes, which cannot be summed (channels, height, width): {listed}',
                                accepted='layers of one shape; list those that belong together')
    if student.size is not None and teacher[0].size is not None and student.size != teacher[0].size and not resize:
        raise _other_size(group, student.size, teacher[0].size)


def _other_size(group: Union[LayerGroup, ConnectedGroup], student: Tuple[int, ...],
                teacher: Tuple[int, ...]) -> DistillationError:
    return DistillationError(
        f'{group.name}: the student ({group.student}) has resolution {student}, the teacher ({group.teacher[0]}) {teacher}',
        accepted="the same; with resize=True the aggregation is resized to the student's")
