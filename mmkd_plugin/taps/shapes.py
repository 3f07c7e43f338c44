"""Making features comparable."""
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.errors import DistillationError

CACHED_BYTES = 2 ** 19
"""Of a feature that is worked on at a time; what comes out of it on the way takes a few times as much."""


def as_map(feature: Tensor, image_size: Optional[Tuple[int, int]] = None) -> Tensor:
    """(B, C, H, W) as it is, (B, C) as (B, C, 1, 1); tokens (B, L, C) of images of that size as their grid."""
    if feature.dim() == 3:
        assert image_size is not None, 'whoever may have tokens gives it'
        return tokens_to_map(feature, image_size)
    return feature if feature.dim() == 4 else feature[:, :, None, None]


def map_size(feature: Tensor) -> Tuple[int, int]:
    """(H, W) of a map (B, C, H, W)."""
    height, width = feature.shape[2:]
    return height, width


def widened(feature: Tensor) -> Tensor:
    """The feature in float32 at least: half precision widened, anything else as it is."""
    return feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature


def map_like(feature: Tensor, like: Tensor) -> Tensor:
    """A map (B, C, H, W) in the form of ``like``: (B, C), (B, C, H, W), or tokens (B, L, C).

    Extra leading tokens (class, distillation) are those of ``like``, detached.
    """
    if like.dim() == 3:
        tokens = feature.flatten(2).transpose(1, 2)
        extra = like.shape[1] - tokens.shape[1]
        return torch.cat([like[:, :extra].detach(), tokens], 1) if extra > 0 else tokens
    return feature.flatten(1) if like.dim() == 2 else feature


def is_channels_last(feature: Tensor) -> bool:
    """Whether a map (B, C, H, W) lies in memory with its channels last and in no other format."""
    return (feature.dim() == 4 and feature.is_contiguous(memory_format=torch.channels_last)
            and not feature.is_contiguous())


def laid_out(maps: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Maps in the memory format of others: what works on two at once is slow where they lie differently.

    Args:
        maps: features by address; those that are no maps (B, C, H, W) pass unchanged, as do those that lie so already.
        like: features whose maps are in one format; with none it is the plain one.
    """
    # A map of one cell or one channel is in both formats, and says nothing.
    formats = {is_channels_last(each) for each in like.values() if each.dim() == 4 and not _lies_in_both(each)}
    wanted = torch.channels_last if formats == {True} else torch.contiguous_format
    return {name: each.contiguous(memory_format=wanted) if each.dim() == 4 else each for name, each in maps.items()}


def _lies_in_both(feature: Tensor) -> bool:
    return feature.is_contiguous() and feature.is_contiguous(memory_format=torch.channels_last)


def as_stored(feature: Tensor) -> Tensor:
    """A map (B, C, H, W) as (B, H, W, C) where its channels are last in memory: what looks at all elements needs no copy."""
    return feature.permute(0, 2, 3, 1) if is_channels_last(feature) else feature


def in_memory_order(first: Tensor, second: Tensor) -> Tuple[Tensor, Tensor]:
    """Two maps (B, C, H, W), for what looks at all elements alike: as (B, H, W, C) where both have their channels last.

    (The gradient of some operators, `mse_loss` among them, is in the plain format whatever their input was.)
    """
    if is_channels_last(first) and is_channels_last(second):
        return as_stored(first), as_stored(second)
    return first, second


def images_of(feature: Tensor, index: Tensor) -> Tensor:
    """Some images of a tensor (B, ...), in the memory format that it has.

    Args:
        feature: a feature, the images themselves, or a gradient.
        index: (n,) int64, the numbers of the images, on the same device.
    """
    if is_channels_last(feature):
        return feature.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return feature.index_select(0, index)


def by_parts(function: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """``function(first, second)``, on a CPU a few images at a time: what it has in between then stays in the cache.

    Args:
        function: takes two maps (B, C, H, W) and (B, D, h, w); it looks at each image for itself and returns a tensor of the
            shape and type of the first. No gradient is taken through it.
        first, second: the maps.
    """
    images = max(1, CACHED_BYTES // max(1, second[:1].nbytes))
    if first.device.type != 'cpu' or images >= len(first):
        return function(first, second)
    result = torch.empty_like(first)
    for begin in range(0, len(first), images):
        part = slice(begin, begin + images)
        result[part] = function(first[part], second[part])
    return result


def resize(feature: Tensor, size: Sequence[int], mode: str = 'area') -> Tensor:
    """A map (B, C, H, W) at the resolution (h, w); equal sizes pass unchanged.

    Args:
        feature: the map.
        size: (h, w).
        mode: ``'area'``: shrinking averages (adaptive average pooling), enlarging interpolates bilinearly; ``'bilinear'``,
            also where it shrinks: linear in the map and the same at every resolution; ``'nearest'``.
    """
    rows, columns = size
    if tuple(feature.shape[2:]) == (rows, columns):
        return feature
    if mode == 'nearest':
        return F.interpolate(feature, (rows, columns), mode='nearest')
    if mode == 'area' and feature.shape[2] >= rows and feature.shape[3] >= columns:
        return F.adaptive_avg_pool2d(feature, (rows, columns))
    return F.interpolate(feature, (rows, columns), mode='bilinear', align_corners=False)


def tokens_to_map(tokens: Tensor, image_size: Tuple[int, int], extra_tokens: Sequence[int] = (0, 1, 2, 4, 5)) -> Tensor:
    """Tokens (B, L, C) of a vision transformer as a map (B, C, h, w), without its leading ones.

    The grid is the one that an integer stride gives: ``h = ceil(H / s)``, ``w = ceil(W / s)``, ``h * w = L - extra``.

    Args:
        tokens: (B, L, C).
        image_size: height and width of the network's input in pixels.
        extra_tokens: how many leading tokens (class, distillation, registers) may be there, tried in this order.

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
