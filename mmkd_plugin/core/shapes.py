"""Making features comparable."""
from typing import Sequence

import torch.nn.functional as F
from torch import Tensor


def as_map(feature: Tensor) -> Tensor:
    """(B, C, H, W) as it is, (B, C) as (B, C, 1, 1)."""
    return feature if feature.dim() == 4 else feature[:, :, None, None]


def match_size(feature: Tensor, size: Sequence[int]) -> Tensor:
    """A map (B, C, H, W) at the resolution (h, w).

    Shrinking averages (adaptive average pooling), enlarging interpolates bilinearly; equal sizes pass unchanged.
    """
    size = tuple(size)
    if tuple(feature.shape[2:]) == size:
        return feature
    if feature.shape[2] >= size[0] and feature.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(feature, size)
    return F.interpolate(feature, size, mode='bilinear', align_corners=False)
