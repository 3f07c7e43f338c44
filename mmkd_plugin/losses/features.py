"""Losses that compare maps value by value, or direction by direction: L2, L1, cosine, HCL."""
from dataclasses import dataclass
from typing import ClassVar, List, Optional

import torch.nn.functional as F
from torch import Tensor

from ..registry import MODELS
from ..utils.kinds import POOLED
from ..utils.options import Flag, option
from .base import FeatureLoss
from .batch import Batch
from .cells import only_valid
from .distances import hcl, l1, l2
from .valid_area import masked_mean


def normalised_l2(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """``||s / ||s|| - t / ||t||||^2``, s and t whole images, mean over the images.

    Args:
        student, teacher: (B, C, H, W); the gradient reaches the student only.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    ours, theirs = (F.normalize(only_valid(feature, valid).flatten(1)) for feature in (student, teacher.detach()))
    return (ours - theirs).square().sum() / len(ours)


def cosine(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """1 - the cosine of the angle between the channels of a cell, mean over the cells.

    Args:
        student, teacher: (B, C, H, W); the gradient reaches the student only.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    return masked_mean(1 - F.cosine_similarity(student, teacher.detach(), dim=1).unsqueeze(1), valid)


@MODELS.register_module()
class L2Loss(FeatureLoss):
    """Mean squared difference (FitNets, Romero et al., ICLR 2015; without their factor 1/2).

    In a config::

        hint=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='l2')
    """
    short = 'l2'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of L2."""
        normalise: bool = option(Flag(), False, 'whether each image is divided by its norm first, and the squares are added '
                                 'up over channels and cells, as in L2Loss of mmrazor')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        if self.options.normalise:
            return normalised_l2(student, teacher, valid)
        value: Tensor = l2(student, teacher, valid)
        return value


@MODELS.register_module()
class L1Loss(FeatureLoss):
    """Mean absolute difference.

    In a config::

        hint=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='l1')
    """
    short = 'l1'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        value: Tensor = l1(student, teacher, valid)
        return value


@MODELS.register_module()
class CosineLoss(FeatureLoss):
    """1 - the cosine between the channels of the two sides: :func:`cosine`.

    In a config::

        hint=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='cosine')
    """
    short = 'cosine'
    widths: ClassVar[str] = 'equal'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return cosine(student, teacher, valid)


@MODELS.register_module()
class HCLLoss(FeatureLoss):
    """Hierarchical context loss (ReviewKD, Chen et al., CVPR 2021): :func:`.hcl`, L2 at full and pooled resolutions.

    In a config::

        hint=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss=dict(type='mmkd.HCLLoss', levels=[4, 2, 1]))
    """
    short = 'hcl'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of the hierarchical context loss."""
        levels: List[int] = option(POOLED, [4, 2, 1],
                                   'the side of each pooled map, in cells')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        value: Tensor = hcl(student, teacher, valid, self.options.levels)
        return value
