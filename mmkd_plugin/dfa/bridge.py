"""The losses of DFA: the bridge loss of the search (equations 10 to 12) and the feature loss after it (equation 3)."""
from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor

ST_FORMS = ('sq', 'norm', 'mse')
DISTANCES = ('mean', 'sum', 'normalized')
BALANCE_RANGE = (0.1, 10.0)
EPSILON = 1e-12


def directional_distance(student: Tensor, aggregation: Tensor, form: str = 'sq') -> Tensor:
    """The student-teacher path, L_ST (equation 11): how far two features point in different directions.

    Each sample is flattened and divided by its norm; it is the direction that counts, not the size.

    Args:
        student: (B, C, H, W), the group's last feature after its connector.
        aggregation: (B, C, H, W).
        form: ``'sq'``: the squared distance, ``2 - 2 cos``, in [0, 4] whatever the resolution; ``'norm'``: the distance
            itself; ``'mse'``: the squared distance divided by C * H * W.

    Returns:
        Mean over the samples.
    """
    student, aggregation = student.flatten(1), aggregation.flatten(1)
    if form == 'norm':
        return torch.linalg.vector_norm(F.normalize(student, dim=1) - F.normalize(aggregation, dim=1), dim=1).mean()
    squared = 2 - 2 * F.cosine_similarity(student, aggregation, dim=1, eps=EPSILON)
    return squared.mean() / (student.shape[1] if form == 'mse' else 1)


def bridge_loss(st: Tensor, ts: Tensor, gamma_st: float, gamma_ts: float) -> Tensor:
    """``gamma_ST L_ST + gamma_TS L_TS`` (equation 12). Both are minimised, by weights and by beta."""
    return gamma_st * st + gamma_ts * ts


def feature_distance(student: Tensor, aggregation: Tensor, form: str = 'mean') -> Tensor:
    """L2 between the student's feature and the aggregation (equation 3).

    Args:
        student: (B, C, H, W), after its connector.
        aggregation: (B, C, H, W).
        form: ``'mean'`` over all elements; ``'sum'`` over C, H, W and mean over B (Heo et al., ICCV 2019); ``'normalized'``:
            :func:`directional_distance`.
    """
    if form == 'normalized':
        return directional_distance(student, aggregation)
    squared = (student - aggregation).square()
    return squared.mean() if form == 'mean' else squared.sum() / student.shape[0]


def group_weights(form: str, groups: int) -> List[float]:
    """Weight of each group, shallow to deep: 1 / 2^(G - 1 - i) for ``'sum'`` (Heo et al.), 1 otherwise."""
    return [0.5 ** (groups - 1 - group) if form == 'sum' else 1.0 for group in range(groups)]


def balance(norm_ts: float, norm_st: float) -> float:
    """gamma_ST that makes both paths pull at beta equally hard: the ratio of their gradients' norms, within [0.1, 10]."""
    low, high = BALANCE_RANGE
    return high if norm_st == 0 else min(max(norm_ts / norm_st, low), high)
