"""Trainable transforms of a pathway: from the student's feature to the teacher's shape (DistPro, Fig. 4).

A transform is made with the two widths and called with a student's map (B, C_s, h, w), the teacher's (H, W) and, where some
cells do not count, the valid ones at both resolutions; it returns (B, C_t, H, W). Valid cells come out as if the others were
not there: as from a map that ends where they end. A user's own:
``@PATHWAY_TRANSFORMS.register_module(name='mine')``; without the last argument where nothing is to be left out.
"""
import inspect
import math
from functools import cache
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from mmengine.registry import Registry
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..losses import masked_norm
from ..taps.shapes import resize
from ..utils.errors import DistillationError
from ..utils.options import Choice, Kind

PATHWAY_TRANSFORMS = Registry('pathway transform', scope='mmkd', locations=['mmkd_plugin.distpro.transforms'])
WIDEST = 512

Size = Tuple[int, int]
ValidCells = Tuple[Tensor, Tensor]
"""(B, 1, h, w) and (B, 1, H, W) bool: the cells that count before and after the interpolation."""


class Attention(nn.Module):
    """Multiplies a map (B, C, H, W) by one of its own: a bias-free 1x1 convolution to one channel (Fig. 4b).

    The convolution starts as PyTorch starts it, as in the authors' code. From N(0, sqrt(2)), what :func:`convolution` has
    for one channel, it would start 10 to 16 times larger and hardly move.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        return feature * _weighted_channels(feature, self.conv.weight)


def _weighted_channels(feature: Tensor, weight: Tensor) -> Tensor:
    """The 1x1 convolution (1, C, 1, 1) of a map (B, C, H, W) to one channel, (B, 1, H, W): what libraries are slow at."""
    if feature.is_contiguous(memory_format=torch.channels_last):
        return torch.matmul(feature.permute(0, 2, 3, 1), weight.flatten()).unsqueeze(1)
    return (feature * weight).sum(1, keepdim=True)


class Stages(nn.Module):
    """What comes before and what after the interpolation to the teacher's resolution."""

    def __init__(self, before: Sequence[nn.Module], after: Sequence[nn.Module] = ()):
        super().__init__()
        self.before, self.after = nn.Sequential(*before), nn.Sequential(*after)

    def forward(self, feature: Tensor, size: Size, valid: Optional[ValidCells] = None) -> Tensor:
        if valid is None:
            moved: Tensor = self.after(resize(self.before(feature), size, 'nearest'))
            return moved
        return _run(self.after, resize(_run(self.before, feature, valid[0]), size, 'nearest'), valid[1])


def _run(layers: nn.Sequential, feature: Tensor, valid: Tensor) -> Tensor:
    """Runs layers to which only the valid cells (B, 1, H, W) are there; what they give in the others has no meaning.

    Batch norms take their statistics from the valid cells, convolutions that see further than one cell find 0 in the others,
    as beyond the border of a map.
    """
    for layer in layers:
        if isinstance(layer, _BatchNorm):
            feature = masked_norm(layer, feature, valid)
        else:
            sees_further = isinstance(layer, nn.Conv2d) and tuple(layer.kernel_size) != (1, 1)
            feature = layer(feature * valid if sees_further else feature)
    return feature


@PATHWAY_TRANSFORMS.register_module(name='conv1')
class Conv1(Stages):
    """conv1x1 - BN - interpolate."""

    def __init__(self, student: int, teacher: int):
        super().__init__([*conv_norm(student, teacher, 1)])


@PATHWAY_TRANSFORMS.register_module(name='conv2')
class Conv2(Stages):
    """conv1x1 (mid) - BN - attention - interpolate - conv3x3 - BN."""

    def __init__(self, student: int, teacher: int):
        mid = middle_width(student, teacher)
        super().__init__([*conv_norm(student, mid, 1), Attention(mid)], conv_norm(mid, teacher, 3))


@PATHWAY_TRANSFORMS.register_module(name='conv3')
class Conv3(Stages):
    """conv1x1 (mid) - BN - attention - interpolate - conv3x3 (mid) - BN - conv3x3 - BN."""

    def __init__(self, student: int, teacher: int):
        mid = middle_width(student, teacher)
        super().__init__([*conv_norm(student, mid, 1), Attention(mid)],
                         [*conv_norm(mid, mid, 3), *conv_norm(mid, teacher, 3)])


@PATHWAY_TRANSFORMS.register_module(name='conv3_relu')
class Conv3ReLU(Stages):
    """conv3x3 (mid) - BN - ReLU - attention - conv3x3 (mid) - BN - ReLU - interpolate - conv3x3 - BN.

    What the authors' release trains with.
    """

    def __init__(self, student: int, teacher: int):
        mid = middle_width(student, teacher)
        super().__init__([*conv_norm(student, mid, 3), nn.ReLU(inplace=True), Attention(mid),
                          *conv_norm(mid, mid, 3), nn.ReLU(inplace=True)], conv_norm(mid, teacher, 3))


class TokenLinear(nn.Module):
    """A linear layer and a LayerNorm on every token of a grid (B, C, h, w)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs, bias=False), nn.LayerNorm(outputs)
        nn.init.normal_(self.linear.weight, std=math.sqrt(2 / outputs))

    def forward(self, grid: Tensor) -> Tensor:
        moved: Tensor = self.norm(self.linear(grid.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return moved


@PATHWAY_TRANSFORMS.register_module(name='token1')
class Token1(Stages):
    """:class:`Conv1` for the tokens of vision transformers: linear - LN - interpolate."""

    def __init__(self, student: int, teacher: int):
        super().__init__([TokenLinear(student, teacher)])


@PATHWAY_TRANSFORMS.register_module(name='token2')
class Token2(Stages):
    """:class:`Conv2` for tokens: linear (mid) - LN - attention - interpolate - linear - LN."""

    def __init__(self, student: int, teacher: int):
        mid = middle_width(student, teacher)
        super().__init__([TokenLinear(student, mid), Attention(mid)], [TokenLinear(mid, teacher)])


@PATHWAY_TRANSFORMS.register_module(name='token3')
class Token3(Stages):
    """:class:`Conv3` for tokens: linear (mid) - LN - attention - interpolate - linear (mid) - LN - linear - LN."""

    def __init__(self, student: int, teacher: int):
        mid = middle_width(student, teacher)
        super().__init__([TokenLinear(student, mid), Attention(mid)], [TokenLinear(mid, mid), TokenLinear(mid, teacher)])


def middle_width(student: int, teacher: int) -> int:
    """mid = min(512, C_s, C_t)."""
    return min(WIDEST, student, teacher)


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A bias-free convolution that keeps the resolution, its weights from N(0, sqrt(2 / (k k C_out)))."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.normal_(conv.weight, std=math.sqrt(2 / (kernel * kernel * outputs)))
    return conv


def conv_norm(inputs: int, outputs: int, kernel: int) -> Tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A :func:`convolution` and a BN at (1, 0)."""
    return convolution(inputs, outputs, kernel), nn.BatchNorm2d(outputs)


class Transforms(Kind):
    """One name of a transform or several, as an option; read as a list."""
    name = Choice(lambda: PATHWAY_TRANSFORMS.module_dict, 'a registered one of your own')

    @property
    def accepted(self) -> str:
        return f'{self.name.accepted}, or a list of different ones of these'

    def fits(self, value: Any) -> bool:
        names = [value] if isinstance(value, str) else value
        return isinstance(names, (list, tuple)) and len(names) > 0 and all(map(self.name.fits, names)) and (
            len(set(names)) == len(names))

    def read(self, value: Any) -> List[str]:
        names = [value] if isinstance(value, str) else value
        for name in names if isinstance(names, (list, tuple)) else ():
            self.name.read(name)
        if not self.fits(names):
            raise DistillationError(given=value, accepted=self.accepted)
        return list(names)


def build_transform(name: str, student: int, teacher: int) -> nn.Module:
    """The transform of that name from ``student`` to ``teacher`` channels.

    Raises:
        DistillationError: if it does not take the two numbers.
    """
    kind = PATHWAY_TRANSFORMS.get(name)
    try:
        inspect.signature(kind).bind(student, teacher)
    except TypeError as error:
        raise DistillationError(f'({kind.__name__}): {error}', path='transforms', given=name, accepted='a class that is '
                                "made with the student's and the teacher's number of channels") from None
    transform: nn.Module = kind(student, teacher)
    return transform


def valid_cells(student: Tensor, teacher: Tensor) -> ValidCells:
    """The cells of a pathway that count: of the teacher's those whose value comes from one of the student's that does.

    Args:
        student, teacher: (B, 1, h, w) and (B, 1, H, W) bool: the cells that count for each alone.
    """
    return student, teacher & (resize(student.float(), teacher.shape[2:], 'nearest') > 0)


def apply_transform(transform: nn.Module, name: str, feature: Tensor, size: Size, valid: Optional[ValidCells]) -> Tensor:
    """The student's feature (B, C_s, h, w) in the teacher's shape (B, C_t, H, W), by one of the transforms.

    Args:
        transform: what :func:`build_transform` returned.
        name: the transform's name, for messages.
        feature: the student's feature.
        size: (H, W) of the teacher's feature.
        valid: the cells that count, at both resolutions; None for all.

    Raises:
        DistillationError: if some cells do not count and a transform of a user's own cannot leave them out.
    """
    moved: Tensor
    if valid is None:
        moved = transform(feature, size)
    elif not _takes_valid(type(transform).forward):
        raise DistillationError('takes no `valid`, so it cannot leave out padding', path='transforms', given=name,
                                accepted='forward(feature, size, valid), or mask_padding=False')
    else:
        moved = transform(feature, size, valid=valid)
    return moved


@cache
def _takes_valid(forward: Callable[..., Tensor]) -> bool:
    return 'valid' in inspect.signature(forward).parameters
