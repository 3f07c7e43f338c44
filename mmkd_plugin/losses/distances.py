"""Distances between a student's and a teacher's feature of one shape: scalars, the gradient reaches the student only."""
from typing import Callable, Sequence

import torch.nn.functional as F
from mmengine.registry import Registry
from torch import Tensor

from ..core.errors import unknown_name

DISTANCES = Registry('distance', scope='mmkd', locations=['mmkd_plugin.losses'])
"""By name. A user's own: ``@DISTANCES.register_module(name='mine')`` on a function (student, teacher) -> scalar."""


@DISTANCES.register_module()
def l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over all elements of two (B, C, H, W)."""
    return F.mse_loss(student, teacher.detach())


@DISTANCES.register_module()
def l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference over all elements of two (B, C, H, W)."""
    return F.l1_loss(student, teacher.detach())


@DISTANCES.register_module()
def hcl(student: Tensor, teacher: Tensor, levels: Sequence[int] = (4, 2, 1)) -> Tensor:
    """Hierarchical context loss (ReviewKD, Chen et al., CVPR 2021): :func:`l2` at full and at pooled resolutions.

    The pooled maps have l x l cells for every l in ``levels`` below the height; the full resolution weighs 1, they
    1/2, 1/4, ... in the order they are used, and the sum is divided by the sum of the weights.

    Args:
        student, teacher: (B, C, H, W).
        levels: sides of the pooled maps.
    """
    teacher = teacher.detach()
    total, weight, weights = l2(student, teacher), 1.0, 1.0
    for side in levels:
        if side >= student.shape[2]:
            continue
        weight /= 2
        pooled = [F.adaptive_avg_pool2d(feature, side) for feature in (student, teacher)]
        total = total + weight * l2(*pooled)
        weights += weight
    return total / weights


def find_distance(name: str, key: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The distance of that name. Raises :class:`DistillationError` naming ``key`` if there is none."""
    if not isinstance(name, str) or DISTANCES.get(name) is None:
        raise unknown_name(key, name, DISTANCES.module_dict)
    return DISTANCES.get(name)
