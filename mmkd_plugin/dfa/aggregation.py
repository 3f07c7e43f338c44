"""Feature aggregation: several layers of one teacher as one target (equations 2 and 6 of DFA, ECCV 2020)."""
from typing import List, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from ..losses import masked_mean
from ..taps.shapes import widened

ABLATIONS = ('last', 'average', 'random')


def aggregation_weights(beta: Tensor) -> Tensor:
    """``alpha_j = exp(beta_j) / sum_k exp(beta_k)`` (equation 6): (N,) from (N,), positive, summing to 1."""
    return torch.softmax(beta, 0)


def aggregate(maps: Sequence[Tensor], weights: Union[Tensor, Sequence[float]]) -> Tensor:
    """``A = sum_j alpha_j T_j`` (equation 2), in float32 at least.

    Args:
        maps: N features of equal shape (B, C, H, W).
        weights: (N,); gradients flow into them. The gradient of a weight is ``<dL/dA, T_j>``, so nothing is kept for it
            besides the maps (in half precision: and their copies in float32).

    Returns:
        (B, C, H, W).
    """
    total = widened(maps[0]) * weights[0]
    for feature, weight in zip(maps[1:], weights[1:]):
        total = total + widened(feature) * weight
    return total


def unit_rms(feature: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """The feature over its root mean square in the batch, in float32 at least; 0 stays 0.

    Args:
        feature: (B, C, H, W).
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    feature = widened(feature)
    square = masked_mean(feature.square(), valid)
    return feature * square.clamp(min=torch.finfo(feature.dtype).tiny).rsqrt()


def ablation_weights(kind: str, count: int, seed: int = 0) -> List[float]:
    """Weights that were not searched.

    Args:
        kind: ``'last'`` (one-hot at the last layer: conventional feature distillation), ``'average'``, or ``'random'``
            (softmax of standard normal numbers).
        count: N, how many layers there are.
        seed: decides the numbers of ``'random'``; see :func:`seed_of_group`.
    """
    if kind == 'last':
        return [0.0] * (count - 1) + [1.0]
    if kind == 'average':
        return [1 / count] * count
    beta = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return aggregation_weights(beta).tolist()


def seed_of_group(seed: int, group: int) -> int:
    """A seed for one group of a run: groups and runs are drawn independently, unlike with ``seed + group``."""
    return int(np.random.SeedSequence([seed, group]).generate_state(1)[0])


def every_kth(count: int, every: int) -> List[int]:
    """Every k-th of ``count`` blocks, counted back from the last, which is always there; in order."""
    return sorted(range(count - 1, -1, -every))
