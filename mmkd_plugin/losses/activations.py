"""Losses of features before the activation: activation boundaries, and Overhaul's margin ReLU with a partial distance."""
from dataclasses import dataclass
from typing import Optional, Union

import torch
from torch import Tensor

from ..registry import MODELS
from ..taps import TapInfo
from ..utils.errors import DistillationError
from ..utils.options import Either, Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import only_valid
from .margins import margins_from_norm, partial_l2


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


def overhaul(student: Tensor, teacher: Tensor, margin: Optional[Tensor] = None, valid: Optional[Tensor] = None) -> Tensor:
    """OFD (Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019), summed up over everything:
    :func:`~mmkd_plugin.losses.margins.partial_l2`.

    Args:
        student, teacher: (B, C, H, W) before the activation; the gradient reaches the student only.
        margin: (C,), see :func:`~mmkd_plugin.losses.margins.margins_from_norm`; none where None.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    return only_valid(partial_l2(student, teacher, margin), valid).sum()


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
    """Overhaul (Heo et al., ICCV 2019): :func:`overhaul` with the margins of the batch norm before the teacher's tap.

    Divided by the number of images and by ``divisor``. The authors' adapter is ``'conv1x1_bn'``; they halve the weight from
    each stage to the one before it: give each stage a distiller of its own with that ``loss_weight``.

    Raises:
        DistillationError: when training starts, if the margins are to be found and no batch norm comes directly before the
            teacher's tap.

    In a config::

        ofd=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4@preact'], loss='ofd', adapter='conv1x1_bn')
    """
    short = 'ofd'
    margin: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of Overhaul."""
        divisor: float = option(Number(above=1e-4, below=1e12), 1000.0,
                                "what the sum over an image is divided by: the authors' 1000 for CIFAR-100, 10000 for "
                                'ImageNet')
        margin: Union[float, str] = option(
            Either(Number(most=0), ('auto',)), 'auto', "below what the teacher's feature does not count; 'auto': the margin "
            "of each channel, from the batch norm directly before the teacher's tap")

    options: Options

    def prepare(self, student: TapInfo, teacher: TapInfo) -> None:
        if not isinstance(self.options.margin, str):
            self.register_buffer('margin', torch.full((teacher.channels,), float(self.options.margin)))
            return
        if teacher.norm is None or teacher.norm.weight is None:
            raise DistillationError(f"finds no batch norm directly before the teacher's tap {teacher.address!r}",
                                    path='loss', given='mmkd.OFDLoss',
                                    accepted="a tap '...@preact' behind a batch norm, a number as `margin`, another loss")
        self.register_buffer('margin', margins_from_norm(teacher.norm.weight, teacher.norm.bias))

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return overhaul(student, teacher, self.margin, valid) / len(student) / self.options.divisor
