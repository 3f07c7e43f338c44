"""Losses between class scores that look at relations: between classes, and between the images of a batch (DIST, MLKD)."""
from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..registry import MODELS
from ..utils.errors import DistillationError
from ..utils.kinds import TEMPERATURE
from ..utils.options import ListOf, Number, option
from .base import LogitsLoss
from .cells import pixels
from .divergences import kl_divergence


def pearson(first: Tensor, second: Tensor, dim: int, weights: Optional[Tensor] = None) -> Tensor:
    """Pearson's correlation along a dimension; 1e-8 is added to the product of the norms.

    Args:
        first, second: two tensors of one shape.
        dim: along which.
        weights: broadcasts to their shape, 1 for what counts and 0 for what does not; all where None.
    """
    centred = []
    for values in (first, second):
        if weights is None:
            centred.append(values - values.mean(dim, keepdim=True))
        else:
            mean = (values * weights).sum(dim, keepdim=True) / weights.sum(dim, keepdim=True).clamp(min=1)
            centred.append((values - mean) * weights)
    first, second = centred
    coefficients: Tensor = (first * second).sum(dim) / (first.norm(dim=dim) * second.norm(dim=dim) + 1e-8)
    return coefficients


def correlation(student: Tensor, teacher: Tensor, temperature: float = 1.0,
                valid: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """DIST (Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022).

    Of the probabilities at temperature tau, ``tau^2 * (1 - mean of Pearson's correlations)`` between student and teacher: of
    each row (an image, or a pixel), and of each class over all rows.

    Args:
        student, teacher: (B, K) or (B, K, H, W); the gradient reaches the student only.
        temperature: tau.
        valid: (B, 1, H, W) bool, the pixels that count; all where None.

    Returns:
        The relation between classes (inter) and that within classes (intra).
    """
    ours, theirs = (F.softmax(logits / temperature, 1) for logits in (student, teacher.detach()))
    weights = None
    if ours.dim() == 4:
        ours, theirs = pixels(ours).flatten(0, 1), pixels(theirs).flatten(0, 1)
        weights = None if valid is None else valid.reshape(-1, 1).to(ours.dtype)
    rows = pearson(ours, theirs, 1)
    within = pearson(ours, theirs, 0, weights).mean()
    between = rows.mean() if weights is None else (rows * weights[:, 0]).sum() / weights.sum().clamp(min=1)
    return temperature ** 2 * (1 - between), temperature ** 2 * (1 - within)


def batch_level(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``||P_t P_t^T - P_s P_s^T||^2 / B``, P the (B, K) probabilities at T (Jin et al., CVPR 2023, batch level).

    Args:
        student, teacher: (B, K); the gradient reaches the student only.
        temperature: T.
    """
    ours, theirs = (F.softmax(logits / temperature, 1) for logits in (student, teacher.detach()))
    return (theirs @ theirs.T - ours @ ours.T).square().sum() / len(ours)


def class_level(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``||P_t^T P_t - P_s^T P_s||^2 / K``, P the (B, K) probabilities at T (Jin et al., CVPR 2023, class level).

    Args:
        student, teacher: (B, K); the gradient reaches the student only.
        temperature: T.
    """
    ours, theirs = (F.softmax(logits / temperature, 1) for logits in (student, teacher.detach()))
    return (theirs.T @ theirs - ours.T @ ours).square().sum() / ours.shape[1]


@MODELS.register_module()
class DISTLoss(LogitsLoss):
    """DIST (Huang et al., NeurIPS 2022): ``beta * inter + gamma * intra`` of :func:`correlation`.

    In a config::

        kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss=dict(type='mmkd.DISTLoss', beta=1.0, gamma=1.0))
    """
    short = 'dist'

    @dataclass(frozen=True, kw_only=True)
    class Options(LogitsLoss.Options):
        """The options of DIST."""
        temperature: float = option(TEMPERATURE, 1.0, 'tau of the softmax')
        beta: float = option(Number(least=0), 1.0, 'weight of the relation between classes')
        gamma: float = option(Number(least=0), 1.0, 'weight of the relation within classes, over the images or pixels')

    options: Options

    def compare(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor], labels: Optional[Tensor]) -> Tensor:
        between, within = correlation(student, teacher, self.options.temperature, valid)
        return self.options.beta * between + self.options.gamma * within


@MODELS.register_module()
class MLKDLoss(LogitsLoss):
    """Multi-level logit distillation (Jin, Wang, Lin, CVPR 2023), of the one view that a training batch is.

    For every temperature: KL per image, :func:`batch_level` and :func:`class_level`, added up. The authors train on a weakly
    and a strongly augmented view at once, and scale parts by the share of unsure images and classes (about one half): left
    out. For images only; the batch level of pixels would be a matrix of all pairs of pixels.

    In a config::

        kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss='mlkd')
    """
    short = 'mlkd'

    @dataclass(frozen=True, kw_only=True)
    class Options(LogitsLoss.Options):
        """The options of multi-level logit distillation."""
        temperatures: List[float] = option(ListOf(TEMPERATURE, 'numbers > 0.001 and < 10000'), [2.0, 3.0, 4.0, 5.0, 6.0],
                                           'the temperatures whose losses are added up')

    options: Options

    def compare(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor], labels: Optional[Tensor]) -> Tensor:
        if student.dim() > 2:
            raise DistillationError('compares the scores of images, these are of pixels', path='loss', given='mmkd.MLKDLoss',
                                    accepted="'kl', 'dist', 'dkd' or another that works on pixels")
        terms = [kl_divergence(student, teacher, each).mean() + batch_level(student, teacher, each)
                 + class_level(student, teacher, each) for each in self.options.temperatures]
        return torch.stack(terms).sum()
