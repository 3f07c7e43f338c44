"""Margins and the partial distance of Overhaul ("A Comprehensive Overhaul of Feature Distillation", Heo et al., ICCV 2019).

MGD builds on them: what a teacher keeps below zero does not count, as long as the student is there too.
"""
import math
from typing import Optional

import torch
from torch import Tensor

from ..utils.errors import DistillationError


def margins_from_norm(weight: Tensor, bias: Tensor) -> Tensor:
    """E[x | x < 0] for x ~ N(bias, weight^2), the response of a batch norm per channel.

    ``m - s * phi(m / s) / Phi(-m / s)`` where ``Phi(-m / s) > 0.001``, else ``-3 s``. Where s = 0 the response is the
    constant m: the margin is its limit, min(m, 0).

    Args:
        weight, bias: (C,), the affine part of the batch norm.

    Returns:
        (C,), in the dtype of ``weight``; computed in float64.
    """
    mean, deviation = bias.detach().double(), weight.detach().double().abs()
    positive = deviation > 0
    ratio = mean / deviation.where(positive, torch.ones_like(deviation))
    tail = 0.5 * torch.erfc(ratio / math.sqrt(2))
    density = torch.exp(-0.5 * ratio ** 2) / math.sqrt(2 * math.pi)
    expected = mean - deviation * density / tail.where(tail > 0, torch.ones_like(tail))
    margins = torch.where(tail > 0.001, expected, -3 * deviation)
    return torch.where(positive, margins, mean.clamp(max=0)).to(weight.dtype)


def negative_sums(feature: Tensor) -> Tensor:
    """Per channel the sum and the number of negative responses: what :func:`margins_from_sums` is made of.

    Args:
        feature: (B, C, H, W).

    Returns:
        (2, C) float64 where the device has it.
    """
    negative = feature.float().clamp(max=0)
    return torch.stack([negative.sum((0, 2, 3)), (feature < 0).sum((0, 2, 3)).to(negative.dtype)])


def margins_from_sums(sums: Tensor) -> Tensor:
    """Mean negative response per channel, 0 where there was none.

    Args:
        sums: (2, C), :func:`negative_sums` added up over all batches.
    """
    return sums[0] / sums[1].clamp(min=1)


def margin_relu(feature: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """``max(f, m)`` with m, for each channel, the mean of its negative values in the batch (OFD, where no batch norm tells).

    Args:
        feature: (B, C, H, W) before the activation.
        valid: (B, 1, H, W) bool, the cells that count for m; all where None.
    """
    margins = margins_from_sums(negative_sums(feature if valid is None else feature * valid))
    return torch.maximum(feature, margins.to(feature).view(1, -1, 1, 1))


def partial_l2(student: Tensor, teacher: Tensor, margin: Optional[Tensor] = None) -> Tensor:
    """Squared error, except where the teacher is not active and the student is at least as negative.

    ``(s - p)^2`` with p of :func:`partial_target`.

    Args:
        student, teacher: (B, C, H, W) before the activation; the gradient reaches the student only.
        margin: (C,), see :func:`margins_from_norm`; the teacher's feature is taken as it is where None.

    Returns:
        (B, C, H, W), not reduced.

    Raises:
        DistillationError: if the shapes differ.
    """
    return (student - partial_target(student, teacher, margin)).square()


def partial_target(student: Tensor, teacher: Tensor, margin: Optional[Tensor] = None) -> Tensor:
    """The target with which the ordinary squared error is the partial one: where nothing counts, the student's own value.

    ``y = max(t, margin)``; y where ``y > 0``, else ``min(s, y)``: ``(s - y)^2`` counts where ``s > y`` or ``y > 0``.

    Args:
        student, teacher, margin: see :func:`partial_l2`.

    Returns:
        (B, C, H, W), without gradient.

    Raises:
        DistillationError: if the shapes differ.
    """
    if student.shape != teacher.shape:
        raise DistillationError(f'partial loss: student {tuple(student.shape)} and target {tuple(teacher.shape)} differ')
    target = teacher.detach()
    if margin is not None:
        target = torch.maximum(target, margin.detach().view(1, -1, 1, 1))
    # Where y > 0 the largest number there is comes to s, and y is the smaller one. (torch.where takes five times as long.)
    own = torch.add(student.detach(), target > 0, alpha=torch.finfo(student.dtype).max)
    return torch.minimum(own, target)
