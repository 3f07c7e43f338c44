"""Losses of features before the activation: activation boundaries, and Overhaul's margin ReLU with a partial distance."""
import math
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ..registry import MODELS
from ..taps import TapInfo
from ..utils.errors import DistillationError
from ..utils.options import Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import only_valid


def activation_boundary(student: Tensor, teacher: Tensor, margin: float = 1.0, valid: Optional[Tensor] = None) -> Tensor:
    """AB (Heo et al., Knowledge Transfer via Distillation of Activation Boundaries, AAAI 2019).

    ``(s + m)^2`` where t <= 0 and s > -m, plus ``(s - m)^2`` where t > 0 and s <= m, summed up, mean over the images, times
    the 3 / 1000 of the authors' code.

    Args:
        student, teacher: (B, C, H, W) before the activation; the gradient reaches the student only.
        margin: m.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    active = teacher.detach() > 0
    below, above = ~active & (student > -margin), active & (student <= margin)
    squares = (student + margin).square() * below + (student - margin).square() * above
    return only_valid(squares, valid).sum() / len(student) * 3 / 1000


def margins(weight: Tensor, bias: Tensor) -> Tensor:
    """E[x | x < 0] for x ~ N(bias, weight^2): the mean negative response of a batch norm, per channel (OFD).

    ``m - s * phi(m / s) / Phi(-m / s)`` where ``Phi(-m / s) > 0.001``, else ``-3 s``; for s = 0 its limit min(m, 0).

    Args:
        weight, bias: (C,), the affine part of the batch norm; s is the absolute weight, m the bias.

    Returns:
        (C,), in the dtype of ``weight``; computed in float64.
    """
    mean, deviation = bias.detach().double(), weight.detach().double().abs()
    positive = deviation > 0
    ratio = mean / deviation.where(positive, torch.ones_like(deviation))
    tail = 0.5 * torch.erfc(ratio / math.sqrt(2))
    density = torch.exp(-0.5 * ratio ** 2) / math.sqrt(2 * math.pi)
    expected = mean - deviation * density / tail.where(tail > 0, torch.ones_like(tail))
    found = torch.where(tail > 0.001, expected, -3 * deviation)
    return torch.where(positive, found, mean.clamp(max=0)).to(weight.dtype)


def overhaul(student: Tensor, teacher: Tensor, margin: Optional[Tensor] = None, valid: Optional[Tensor] = None) -> Tensor:
    """OFD (Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019), summed up over everything.

    With ``y = max(t, margin)``: ``(s - y)^2`` where s > y or y > 0, else 0.

    Args:
        student, teacher: (B, C, H, W) before the activation; the gradient reaches the student only.
        margin: (C,), see :func:`margins`; the teacher's feature is taken as it is where None.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    target = teacher.detach()
    if margin is not None:
        target = torch.maximum(target, margin.view(1, -1, 1, 1))
    counts = (student > target) | (target > 0)
    return only_valid((student - target).square() * counts, valid).sum()


@MODELS.register_module()
class ABLoss(FeatureLoss):
    """Activation boundaries (Heo et al., AAAI 2019): :func:`activation_boundary`. For features before the activation.

    In a config::

        ab=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4@preact'], loss='ab')
    """
    short = 'ab'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of activation boundaries."""
        margin: float = option(Number(above=0), 1.0, 'how far from 0 the student has to be')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return activation_boundary(student, teacher, self.options.margin, valid)


@MODELS.register_module()
class OFDLoss(FeatureLoss):
    """Overhaul (Heo et al., ICCV 2019): :func:`overhaul` with the :func:`margins` of the norm before the teacher's tap.

    Divided by the number of images and by ``divisor``. The authors' adapter is ``'conv1x1_bn'``; they halve the weight from
    each stage to the one before it: give each stage a distiller of its own with that ``loss_weight``.

    Raises:
        DistillationError: when training starts, if no batch norm comes directly before the teacher's tap.

    In a config::

        ofd=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4@preact'], loss='ofd', adapter='conv1x1_bn')
    """
    short = 'ofd'
    margin: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of Overhaul."""
        divisor: float = option(Number(above=0), 1000.0, "what the sum over an image is divided by: the authors' 1000 for "
                                'CIFAR-100, 10000 for ImageNet')

    options: Options

    def prepare(self, student: TapInfo, teacher: TapInfo) -> None:
        if teacher.norm is None or teacher.norm.weight is None:
            raise DistillationError(f"finds no batch norm directly before the teacher's tap {teacher.address!r}",
                                    path='loss', given='mmkd.OFDLoss',
                                    accepted="a tap '...@preact' behind a batch norm, or another loss")
        self.register_buffer('margin', margins(teacher.norm.weight, teacher.norm.bias))

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return overhaul(student, teacher, self.margin, valid) / len(student) / self.options.divisor
