"""Losses between normalised maps: attention transfer, neuron selectivity, factor transfer."""
from dataclasses import dataclass
from typing import ClassVar, Optional

import torch.nn.functional as F
from torch import Tensor

from ..registry import MODELS
from ..utils.options import Flag, Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import only_valid, to_smaller_size
from .valid_area import masked_mean


def attention_map(feature: Tensor, power: int = 2) -> Tensor:
    """Mean over the channels of ``f^p``, divided by its norm over the cells.

    Args:
        feature: (B, C, H, W).
        power: p.

    Returns:
        (B, 1, H, W).
    """
    mean = feature.pow(power).mean(1, keepdim=True)
    return F.normalize(mean.flatten(1)).view_as(mean)


def attention_transfer(student: Tensor, teacher: Tensor, power: int = 2, valid: Optional[Tensor] = None) -> Tensor:
    """AT (Zagoruyko, Komodakis, Paying More Attention to Attention, ICLR 2017): ``mean (Q_s - Q_t)^2``.

    Q is :func:`attention_map`. The mean over images and cells is the authors' code's; the paper has a norm per image. The
    map with more rows is averaged down to the other.

    Args:
        student, teacher: (B, C_s, H, W) and (B, C_t, H, W); the gradient reaches the student only.
        power: p.
        valid: (B, 1, H, W) bool, the cells that count; all where None. Both maps have its resolution then.
    """
    ours, theirs = (attention_map(only_valid(feature, valid), power)
                    for feature in to_smaller_size(student, teacher.detach()))
    return masked_mean((ours - theirs).square(), valid)


def neuron_selectivity(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """NST (Huang, Wang, Like What You Like, 2017) with the kernel ``k(x, y) = (x . y)^2``.

    ``mean k(t, t) + mean k(s, s) - 2 mean k(s, t)`` over all pairs of channels, each map of a channel divided by its norm;
    mean over the images. The map with more rows is averaged down to the other.

    Args:
        student, teacher: (B, C_s, H, W) and (B, C_t, H, W); the gradient reaches the student only.
        valid: (B, 1, H, W) bool, the cells that count; all where None. Both maps have its resolution then.
    """
    ours, theirs = (F.normalize(only_valid(feature, valid).flatten(2), dim=2)
                    for feature in to_smaller_size(student, teacher.detach()))
    return _kernel(theirs, theirs) + _kernel(ours, ours) - 2 * _kernel(ours, theirs)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.transpose(1, 2)).square().mean()


def factor_transfer(student: Tensor, teacher: Tensor, attention: bool = False, valid: Optional[Tensor] = None) -> Tensor:
    """FT (Kim, Park, Kwak, Paraphrasing Complex Network, NeurIPS 2018): ``mean |F_s / ||F_s|| - F_t / ||F_t|||``, p = 1.

    Args:
        student, teacher: (B, C, H, W), factors; with ``attention`` maps whose widths and resolutions may differ. The
            gradient reaches the student only.
        attention: whether a map's :func:`attention_map` stands in for its factor, as in RepDistiller.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    teacher = teacher.detach()
    if attention:
        student, teacher = to_smaller_size(student, teacher)
        ours, theirs = (attention_map(only_valid(feature, valid)) for feature in (student, teacher))
    else:
        ours, theirs = (F.normalize(only_valid(feature, valid).flatten(1)).view_as(feature)
                        for feature in (student, teacher))
    return masked_mean((ours - theirs).abs(), valid)


@MODELS.register_module()
class ATLoss(FeatureLoss):
    """Attention transfer (Zagoruyko, Komodakis, ICLR 2017): :func:`attention_transfer`.

    In a config::

        at=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3', 'backbone.layer4'], loss='at', loss_weight=1000.0)
    """
    short = 'at'
    widths: ClassVar[str] = 'any'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of attention transfer."""
        power: int = option(Number(least=1, most=16, whole=True), 2, 'p of f^p')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return attention_transfer(student, teacher, self.options.power, valid)


@MODELS.register_module()
class NSTLoss(FeatureLoss):
    """Neuron selectivity transfer (Huang, Wang, 2017): :func:`neuron_selectivity`.

    In a config::

        nst=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='nst')
    """
    short = 'nst'
    widths: ClassVar[str] = 'any'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return neuron_selectivity(student, teacher, valid)


@MODELS.register_module()
class FTLoss(FeatureLoss):
    """Factor transfer (Kim, Park, Kwak, NeurIPS 2018): :func:`factor_transfer`.

    The student's translator is the distiller's adapter. There is no paraphraser (the paper trains one on the teacher
    beforehand): the teacher's feature is its factor, or with ``attention=True`` both features' attention maps are, as in
    RepDistiller.

    In a config::

        ft=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='ft')
    """
    short = 'ft'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of factor transfer."""
        attention: bool = option(Flag(), False, 'whether attention maps are compared instead of features')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return factor_transfer(student, teacher, self.options.attention, valid)
