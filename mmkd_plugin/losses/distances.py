"""Distances between a student's and a teacher's feature of one shape: scalars, the gradient reaches the student only."""
from typing import List, Optional, Sequence

import torch.nn.functional as F
from torch import Tensor

from ..taps.shapes import in_memory_order, is_channels_last
from .valid_area import masked_mean


def l2(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """Mean squared difference.

    Args:
        student, teacher: (B, C, H, W).
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    if valid is None:
        return F.mse_loss(*in_memory_order(student, teacher.detach()))
    return masked_mean((student - teacher.detach()).square(), valid)


def sum_of_squares(student: Tensor, target: Tensor) -> Tensor:
    """``||s - t||^2``, added up over everything; the gradient reaches both.

    Args:
        student, target: (B, C, H, W).
    """
    return F.mse_loss(*in_memory_order(student, target), reduction='sum')


def l1(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """Mean absolute difference.

    Args:
        student, teacher: (B, C, H, W).
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    if valid is None:
        return F.l1_loss(*in_memory_order(student, teacher.detach()))
    return masked_mean((student - teacher.detach()).abs(), valid)


def hcl(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None, levels: Sequence[int] = (4, 2, 1)) -> Tensor:
    """Hierarchical context loss (ReviewKD, Chen et al., CVPR 2021): :func:`l2` at full and at pooled resolutions.

    The pooled maps have l x l cells for every l in ``levels`` below the height. The full resolution weighs 1, the pooled
    maps 1/2, 1/4, ... in the order they are used, and the sum is divided by the sum of the weights. Where some cells do not
    count, a pooled cell is the mean of the others in it.

    Args:
        student, teacher: (B, C, H, W).
        valid: (B, 1, H, W) bool, the cells that count; all where None.
        levels: the side l of each pooled map.
    """
    total: Tensor = l2(student, teacher, valid)
    # Pooling is linear: the difference is pooled, once, in place of both sides.
    difference = student - teacher.detach()
    difference = pooled = difference if valid is None else difference * valid
    weight = weights = 1.0
    for side in levels:
        if side >= student.shape[2]:
            continue
        weight /= 2
        pooled = _pooled(difference, pooled, side)
        total = total + weight * _mean_square(pooled, valid)
        weights += weight
    return total / weights


def _pooled(whole: Tensor, finer: Tensor, side: int) -> Tensor:
    """``adaptive_avg_pool2d(whole, side)`` of a map (B, C, H, W), from an earlier result of it where that comes to the same.

    It does where the parts of ``finer`` are of one size and ``side`` divides their number. With a fixed kernel, where that
    is possible, because the backward of the adaptive pooling takes several times as long.
    """
    height, width = finer.shape[2:]
    even = whole.shape[2] % height == 0 == whole.shape[3] % width
    if not (even and height % side == 0 == width % side):
        finer, (height, width) = whole, whole.shape[2:]
    if height % side == 0 == width % side:
        parts = height // side, width // side
        return _mean_of_parts(finer, *parts) if is_channels_last(finer) else F.avg_pool2d(finer, parts)
    return F.adaptive_avg_pool2d(finer, side)


def _mean_of_parts(feature: Tensor, rows: int, columns: int) -> Tensor:
    """``avg_pool2d(feature, (rows, columns))`` of a map (B, C, H, W) with its channels last: there that is slow."""
    parts = feature.permute(0, 2, 3, 1).unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
    means: Tensor = parts.sum(4).sum(2) / (rows * columns)
    return means.permute(0, 3, 1, 2)


def _mean_square(pooled: Tensor, valid: Optional[Tensor]) -> Tensor:
    """Of means (B, C, l, l) over parts of a map, those parts that have a valid cell; the others were 0 in the map."""
    if valid is None:
        return pooled.square().mean()
    share = F.adaptive_avg_pool2d(valid.to(pooled.dtype), pooled.shape[2])
    seen = share > 0
    return masked_mean((pooled / share.where(seen, 1.0)).square(), seen)


def halving_weights(stages: int) -> List[float]:
    """1 / 2^(L - 1 - i) for stage i of L, shallow to deep: C * H * W halves from stage to stage, this evens it out.

    MGD's weights (after Overhaul, Heo et al., ICCV 2019), and those of DFA's sum.
    """
    return [0.5 ** (stages - 1 - stage) for stage in range(stages)]
