"""What several losses do with the cells of a map: leave some out, bring two maps to one size, roots that have a gradient."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..taps.shapes import map_size, resize


def only_valid(feature: Tensor, valid: Optional[Tensor]) -> Tensor:
    """The feature with 0 in the cells that do not count.

    Args:
        feature: (B, C, H, W).
        valid: (B, 1, H, W) bool, or None for all.
    """
    return feature if valid is None else feature.where(valid, feature.new_zeros(()))


def masked_log_softmax(scores: Tensor, valid: Optional[Tensor], dim: int = -1) -> Tensor:
    """Log-softmax in which entries that do not count have probability 0 (and a finite logarithm).

    Args:
        scores: any shape.
        valid: bool, of a shape that broadcasts to it, or None for all.
        dim: over which the probabilities add up to 1.
    """
    if valid is not None:
        # Not -inf: 0 * -inf would be NaN in a divergence.
        scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min / 2)
    return F.log_softmax(scores, dim)


def to_smaller_size(student: Tensor, teacher: Tensor) -> Tuple[Tensor, Tensor]:
    """Both maps at the resolution of the one with fewer rows, the other averaged down to it.

    Args:
        student, teacher: (B, C_s, H_s, W_s) and (B, C_t, H_t, W_t).
    """
    size = map_size(student if student.shape[2] <= teacher.shape[2] else teacher)
    return resize(student, size), resize(teacher, size)


def average_pool(feature: Tensor, valid: Optional[Tensor], window: int) -> Tuple[Tensor, Optional[Tensor]]:
    """Means of the cells that count in windows of window x window, those at the border of what is left of it.

    Args:
        feature: (B, C, H, W).
        valid: (B, 1, H, W) bool, or None for all.
        window: in cells.

    Returns:
        (B, C, h, w), and which of its cells have seen one that counts: (B, 1, h, w) bool, or None for all.
    """
    if valid is None:
        return F.avg_pool2d(feature, window, window, ceil_mode=True), None
    share = F.avg_pool2d(valid.to(feature.dtype), window, window, ceil_mode=True)
    seen = share > 0
    means = F.avg_pool2d(only_valid(feature, valid), window, window, ceil_mode=True)
    return means / share.where(seen, torch.ones_like(share)), seen


def root(values: Tensor) -> Tensor:
    """The square root, whose gradient is 0 (not infinite) where it is 0."""
    positive = values > 0
    return values.where(positive, torch.ones_like(values)).sqrt() * positive


def pixels(feature: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H * W, C)."""
    return feature.flatten(2).transpose(1, 2)
