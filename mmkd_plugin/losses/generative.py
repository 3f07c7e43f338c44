"""Masked generative distillation: the teacher's feature from a student's feature with holes.

Its authors call it MGD, which in this package is Matching Guided Distillation.
"""
from dataclasses import dataclass
from typing import ClassVar, Optional

import torch
from torch import Tensor, nn

from ..registry import MODELS
from ..taps import TapInfo
from ..utils.options import Choice, Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import only_valid


class Generation(nn.Sequential):
    """3x3 convolution, ReLU, 3x3 convolution: (B, C, H, W) -> (B, C, H, W).

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True),
                         nn.Conv2d(channels, channels, 3, padding=1))


def masked_generation(generated: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """Masked generative distillation (Yang et al., ECCV 2022, not weighted): ``||G(f_s * mask) - f_t||^2 / B``.

    Args:
        generated: (B, C, H, W), what was made of the masked student's feature.
        teacher: (B, C, H, W); no gradient reaches it.
        valid: (B, 1, H, W) bool, the cells that count; all where None. Hidden cells count.
    """
    return only_valid((generated - teacher.detach()).square(), valid).sum() / len(generated)


def random_mask(feature: Tensor, ratio: float, what: str) -> Tensor:
    """What stays of a feature, 1 or 0: each of its parts is hidden with a probability.

    Args:
        feature: (B, C, H, W).
        ratio: the probability.
        what: ``'cells'``, each with all its channels, or ``'channels'``.

    Returns:
        (B, 1, H, W), or (B, C, 1, 1).
    """
    batch, channels, height, width = feature.shape
    shape = (batch, 1, height, width) if what == 'cells' else (batch, channels, 1, 1)
    return (torch.rand(shape, device=feature.device) >= ratio).to(feature.dtype)


@MODELS.register_module()
class MaskedGenerativeLoss(FeatureLoss):
    """Masked generative distillation (Yang et al., ECCV 2022): :func:`masked_generation`, weighted with ``alpha``.

    Parts of the student's feature are hidden (:func:`random_mask`), two convolutions that are trained with the student
    (:class:`Generation`) make the teacher's feature from the rest. The authors' values: detection ``ratio=0.65``,
    segmentation 0.75, both ``alpha=2e-5``; classification ``ratio=0.15, mask='channels', alpha=7e-5``.

    In a config::

        mgd=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'],
                 loss=dict(type='mmkd.MaskedGenerativeLoss', ratio=0.75))
    """
    short = 'masked_generative'
    widths: ClassVar[str] = 'equal'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of masked generative distillation."""
        ratio: float = option(Number(least=0, below=1), 0.65, 'the share that is hidden')
        mask: str = option(Choice(('cells', 'channels')), 'cells', "what is hidden: 'cells' in all channels, or whole "
                           "'channels'")
        alpha: float = option(Number(least=0), 2e-5, 'weight of the sum over channels and cells')

    options: Options

    def prepare(self, student: TapInfo, teacher: TapInfo) -> None:
        self.generation = Generation(teacher.channels)

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        mask = random_mask(student, self.options.ratio, self.options.mask)
        # Padding is 0 to the convolutions, as everything outside of the map.
        generated = self.generation(only_valid(student, valid) * mask)
        return self.options.alpha * masked_generation(generated, teacher, valid)
