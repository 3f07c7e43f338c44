"""Margins: the expected negative response of a teacher channel (from "A Comprehensive Overhaul of Feature Distillation",
Heo et al., ICCV 2019, whose partial loss MGD uses)."""
import math

import torch
from torch import Tensor


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
