"""Reducing teacher channels to the student's width, group by group (MGD: RD, AMP; SM is a group of one).

Every reducer takes ``grouped`` (B, C_s, g, H, W) and ``margins`` (C_s, g) and returns the target (B, C_s, H, W) and its
margin (C_s,). None has parameters, none takes a gradient.
"""
from functools import reduce
from typing import Callable, Dict, Optional, Tuple

import torch
from torch import Tensor

from ..taps.shapes import is_channels_last


def gather_groups(teacher: Tensor, assignment: Tensor) -> Tensor:
    """X[b, j, k] = T[b, G[j, k]].

    Args:
        teacher: (B, C_t, H, W).
        assignment: (C_s, g) int64.

    Returns:
        (B, C_s, g, H, W); each ``X[:, :, k]`` in the memory format of the map.
    """
    if is_channels_last(teacher):
        batch, channels, height, width = teacher.shape
        cells = teacher.permute(0, 2, 3, 1).reshape(-1, channels)  # a view
        picked = cells.index_select(1, assignment.t().flatten())
        return picked.view(batch, height, width, *assignment.t().shape).permute(0, 4, 3, 1, 2)
    chosen = teacher.index_select(1, assignment.flatten())
    return chosen.view(teacher.shape[0], *assignment.shape, *teacher.shape[2:])


def absolute_max(grouped: Tensor, margins: Tensor,
                 generator: Optional[torch.Generator] = None) -> Tuple[Tensor, Tensor]:
    """AMP: the value with the largest magnitude, with its sign; margin: the mean over the group."""
    high, low = _largest(grouped), reduce(torch.minimum, grouped.unbind(2))
    # `high` where high >= -low, else `low`: torch.where takes many times as long.
    return torch.copysign(torch.maximum(high, -low), high + low), margins.mean(1)


def signed_max(grouped: Tensor, margins: Tensor,
               generator: Optional[torch.Generator] = None) -> Tuple[Tensor, Tensor]:
    """What the authors' code did under the name AMP before 2021-03-04: the largest value; margin: the mean."""
    return _largest(grouped), margins.mean(1)


def simple_max(grouped: Tensor, margins: Tensor,
               generator: Optional[torch.Generator] = None) -> Tuple[Tensor, Tensor]:
    """Simple pooling: the largest value; margin: the largest of the group."""
    return _largest(grouped), margins.amax(1)


def random_drop(grouped: Tensor, margins: Tensor, generator: Optional[torch.Generator] = None,
                per_channel: bool = False) -> Tuple[Tensor, Tensor]:
    """RD: one channel of the group at random, for every sample and position anew.

    The margin is a draw of its own per student channel, shared by the batch, as in the authors' code.

    Args:
        generator: a generator on the device of ``grouped``; the global one if None.
        per_channel: draw once per sample and student channel instead (drops whole channels).
    """
    batch, channels, group, height, width = grouped.shape
    size = (batch, channels, 1, 1, 1) if per_channel else (batch, channels, 1, height, width)
    keep = torch.randint(group, size, generator=generator, device=grouped.device)
    keep_margin = torch.randint(group, (channels, 1), generator=generator, device=grouped.device)
    # In the memory order of the group, which `gather` does not keep.
    order = (0, 3, 4, 2, 1) if grouped.stride(1) == 1 else (0, 1, 2, 3, 4)
    keep = keep.expand(batch, channels, 1, height, width).permute(order)
    target = grouped.permute(order).gather(order.index(2), keep).permute([order.index(dim) for dim in range(5)]).squeeze(2)
    return target, margins.gather(1, keep_margin).squeeze(1)


def random_drop_channel(grouped: Tensor, margins: Tensor,
                        generator: Optional[torch.Generator] = None) -> Tuple[Tensor, Tensor]:
    """:func:`random_drop` of whole channels: another reading of the name."""
    return random_drop(grouped, margins, generator, per_channel=True)


def only_member(grouped: Tensor, margins: Tensor,
                generator: Optional[torch.Generator] = None) -> Tuple[Tensor, Tensor]:
    """SM, and every reducer where g = 1: the one matched channel."""
    return grouped.squeeze(2), margins.squeeze(1)


def _largest(grouped: Tensor) -> Tensor:
    """(B, C_s, H, W) from (B, C_s, g, H, W), in its memory format; member by member, since `amax` takes longer."""
    return reduce(torch.maximum, grouped.unbind(2))


REDUCERS: Dict[str, Callable[..., Tuple[Tensor, Tensor]]] = dict(
    sparse=only_member, random_drop=random_drop, random_drop_channel=random_drop_channel, absolute_max=absolute_max,
    simple_max=simple_max, signed_max=signed_max)
"""By name: SM, RD, RD of whole channels, AMP (what the authors use), SP, and AMP as released before 2021-03-04."""

RANDOM_REDUCERS = ('random_drop', 'random_drop_channel')
