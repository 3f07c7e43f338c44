"""Losses that look at each channel as a distribution over the cells: CWD, PKD."""
from dataclasses import dataclass
from typing import ClassVar, Optional

from torch import Tensor

from ..registry import MODELS
from ..taps.shapes import map_size, resize
from ..utils.kinds import TEMPERATURE
from ..utils.options import option
from .base import FeatureLoss
from .batch import Batch
from .cells import masked_log_softmax, only_valid, root
from .valid_area import masked_mean


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, valid: Optional[Tensor] = None) -> Tensor:
    """CWD (Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021).

    ``tau^2 * KL(softmax(t / tau) || softmax(s / tau))`` over the cells of each channel, mean over images and channels.

    Args:
        student, teacher: (B, C, H, W); the gradient reaches the student only.
        temperature: tau.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    cells = None if valid is None else valid.flatten(2)
    ours, theirs = (masked_log_softmax(feature.flatten(2) / temperature, cells) for feature in (student, teacher.detach()))
    return temperature ** 2 * (theirs.exp() * (theirs - ours)).sum(2).mean()


def standardised_channels(feature: Tensor, valid: Optional[Tensor] = None, eps: float = 1e-6) -> Tensor:
    """``(f - mean) / (std + eps)`` of each channel, over the cells of all images of the batch; the unbiased deviation.

    Args:
        feature: (B, C, H, W).
        valid: (B, 1, H, W) bool, the cells that count; all where None.
        eps: added to the deviation.
    """
    if valid is None:
        centred = feature - feature.mean((0, 2, 3), keepdim=True)
        variance = centred.square().sum((0, 2, 3), keepdim=True) / max(1, feature[:, 0].numel() - 1)
    else:
        count = valid.sum().clamp(min=1)
        centred = only_valid(feature - only_valid(feature, valid).sum((0, 2, 3), keepdim=True) / count, valid)
        variance = centred.square().sum((0, 2, 3), keepdim=True) / (count - 1).clamp(min=1)
    return centred / (root(variance) + eps)


def pearson_distance(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                     resize_student: bool = True) -> Tensor:
    """PKD (Cao et al., PKD: General Distillation Framework for Object Detectors, NeurIPS 2022).

    Half the mean squared difference of the :func:`standardised_channels`: about 1 - Pearson's correlation.

    Args:
        student, teacher: (B, C, H, W); the gradient reaches the student only. Where the resolutions differ one is resized
            bilinearly.
        valid: (B, 1, H, W) bool, the cells that count; all where None. Both maps have its resolution then.
        resize_student: which one: the student's, or the teacher's.
    """
    teacher = teacher.detach()
    if resize_student:
        student = resize(student, map_size(teacher), 'bilinear')
    else:
        teacher = resize(teacher, map_size(student), 'bilinear')
    ours, theirs = standardised_channels(student, valid), standardised_channels(teacher, valid)
    return masked_mean((ours - theirs).square(), valid) / 2


@MODELS.register_module()
class CWDLoss(FeatureLoss):
    """Channel-wise distillation (Shu et al., ICCV 2021): :func:`channel_divergence`. For features, and for scores of pixels.

    In a config::

        cwd=dict(type='mmkd.FeatureDistiller', pairs=['decode_head.conv_seg'], loss='cwd', loss_weight=5.0)
    """
    short = 'cwd'
    widths: ClassVar[str] = 'equal'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of channel-wise distillation."""
        temperature: float = option(TEMPERATURE, 1.0, "tau of the softmax over the cells; 4 in the authors' code")

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return channel_divergence(student, teacher, self.options.temperature, valid)


@MODELS.register_module()
class PKDLoss(FeatureLoss):
    """Pearson's correlation of features (Cao et al., NeurIPS 2022): :func:`pearson_distance`.

    In a config::

        pkd=dict(type='mmkd.FeatureDistiller', pairs=['neck[0]', 'neck[1]', 'neck[2]'], loss='pkd', loss_weight=6.0)
    """
    short = 'pkd'
    widths: ClassVar[str] = 'equal'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return pearson_distance(student, teacher, valid)
