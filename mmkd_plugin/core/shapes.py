"""Making features comparable."""
from typing import Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor

from .errors import DistillationError


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


def tokens_to_map(tokens: Tensor, image_size: Tuple[int, int], extra_tokens: Sequence[int] = (0, 1, 2)) -> Tensor:
    """Tokens (B, L, C) of a vision transformer as a map (B, C, h, w), extra leading tokens (class, distillation) dropped.

    The grid is the one that an integer stride gives: ``h = ceil(H / s)``, ``w = ceil(W / s)``, ``h * w = L - extra``.

    Args:
        tokens: (B, L, C).
        image_size: height and width of the network's input in pixels.
        extra_tokens: how many leading tokens may be there, tried in this order.

    Raises:
        DistillationError: if no stride explains the number of tokens.
    """
    batch, length, channels = tokens.shape
    height, width = image_size
    for extra in extra_tokens:
        for stride in range(1, max(height, width) + 1):
            rows, columns = -(-height // stride), -(-width // stride)
            if rows * columns == length - extra:
                return tokens[:, extra:].transpose(1, 2).reshape(batch, channels, rows, columns)
            if rows * columns < length - extra:
                break
    raise DistillationError(f'{length} tokens are not the grid of a {height}x{width} image at any stride '
                            f'(with {", ".join(map(str, extra_tokens))} extra tokens)')
