"""Variational information distillation: the teacher's feature under a Gaussian that the student predicts."""
import math
from dataclasses import dataclass
from typing import ClassVar, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from ..taps import TapInfo
from ..utils.options import Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import to_smaller_size
from .valid_area import masked_mean


def gaussian_log_likelihood(mean: Tensor, teacher: Tensor, rho: Tensor, eps: float = 1e-5,
                            valid: Optional[Tensor] = None) -> Tensor:
    """VID (Ahn et al., Variational Information Distillation, CVPR 2019): ``mean 0.5 * ((m - t)^2 / v_c + log v_c)``.

    ``v_c = log(1 + exp(rho_c)) + eps`` for every channel of the teacher. Negative log-likelihood without its constant: it
    can be below 0.

    Args:
        mean, teacher: (B, C, H, W); m is what the student predicts. No gradient reaches the teacher.
        rho: (C,).
        eps: the least variance.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    variance = (F.softplus(rho) + eps).view(1, -1, 1, 1)
    return masked_mean(0.5 * ((mean - teacher.detach()).square() / variance + variance.log()), valid)


class Regressor(nn.Sequential):
    """Three 1x1 convolutions without bias, ReLU between them: (B, C_s, H, W) -> (B, C_t, H, W).

    Args:
        student_channels: C_s.
        hidden_channels: those of the two maps between.
        teacher_channels: C_t.
    """

    def __init__(self, student_channels: int, hidden_channels: int, teacher_channels: int):
        super().__init__(nn.Conv2d(student_channels, hidden_channels, 1, bias=False), nn.ReLU(),
                         nn.Conv2d(hidden_channels, hidden_channels, 1, bias=False), nn.ReLU(),
                         nn.Conv2d(hidden_channels, teacher_channels, 1, bias=False))


@MODELS.register_module()
class VIDLoss(FeatureLoss):
    """VID (Ahn et al., CVPR 2019): :func:`gaussian_log_likelihood` of what a :class:`Regressor` makes of the student's map.

    As in RepDistiller the hidden width is the teacher's. Regressor and variances are trained with the student.

    In a config::

        vid=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='vid')
    """
    short = 'vid'
    widths: ClassVar[str] = 'any'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of variational information distillation."""
        variance: float = option(Number(above=0), 5.0, 'the variance of every channel at the start')
        eps: float = option(Number(above=0), 1e-5, 'the least variance')

    options: Options

    def prepare(self, student: TapInfo, teacher: TapInfo) -> None:
        self.regressor = Regressor(student.channels, teacher.channels, teacher.channels)
        start = math.log(math.expm1(max(self.options.variance - self.options.eps, 1e-6)))
        self.rho = nn.Parameter(torch.full((teacher.channels,), start))

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        student, teacher = to_smaller_size(student, teacher)
        return gaussian_log_likelihood(self.regressor(student), teacher, self.rho, self.options.eps, valid)
