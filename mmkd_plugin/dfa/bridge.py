"""The losses of DFA: the bridge loss of the search (equations 10 to 12) and the feature loss after it (equation 3)."""
from typing import List, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import halving_weights, masked_mean
from ..losses.distances import sum_of_squares

ST_FORMS = ('sq', 'norm', 'mse')
DISTANCE_FORMS = ('mean', 'sum', 'normalized')
BALANCE_RANGE = (0.1, 10.0)
EPSILON = 1e-12


def directional_distance(student: Tensor, aggregation: Tensor, form: str = 'sq', valid: Optional[Tensor] = None) -> Tensor:
    """The student-teacher path, L_ST (equation 11): how far two features point in different directions.

    Each sample is flattened and divided by its norm; it is the direction that counts, not the size.

    Args:
        student: (B, C, H, W), the group's last feature after its connector.
        aggregation: (B, C, H, W).
        form: ``'sq'``: the squared distance, ``2 - 2 cos``, in [0, 4] whatever the resolution; ``'norm'``: the distance
            itself; ``'mse'``: the squared distance divided by the number of elements that count, C * H * W.
        valid: (B, 1, H, W) bool, the cells that count; None for all.

    Returns:
        Mean over the samples.
    """
    elements: Union[int, Tensor] = student[0].numel()
    if valid is not None:  # cells of 0 have no part in a norm or a cosine
        student, aggregation = student * valid, aggregation * valid
        elements = (valid.flatten(1).sum(1) * student.shape[1]).clamp(min=1)
    student, aggregation = student.flatten(1), aggregation.flatten(1)
    if form == 'norm':
        apart = F.normalize(student, dim=1) - F.normalize(aggregation, dim=1)
        distance: Tensor = torch.linalg.vector_norm(apart, dim=1).mean()
        return distance
    squared = 2 - 2 * F.cosine_similarity(student, aggregation, dim=1, eps=EPSILON)
    if form != 'mse':
        return squared.mean()
    return squared.mean() / elements if isinstance(elements, int) else (squared / elements).mean()


def bridge_loss(st: Tensor, ts: Tensor, gamma_st: float, gamma_ts: float) -> Tensor:
    """``gamma_ST L_ST + gamma_TS L_TS`` (equation 12). Both are minimised, by weights and by beta."""
    return gamma_st * st + gamma_ts * ts


def feature_distance(student: Tensor, aggregation: Tensor, form: str = 'mean', valid: Optional[Tensor] = None) -> Tensor:
    """L2 between the student's feature and the aggregation (equation 3).

    Args:
        student: (B, C, H, W), after its connector.
        aggregation: (B, C, H, W).
        form: ``'mean'`` over all elements; ``'sum'`` over C, H, W and mean over B (Heo et al., ICCV 2019); ``'normalized'``:
            :func:`directional_distance`.
        valid: (B, 1, H, W) bool, the cells that count; None for all.
    """
    if form == 'normalized':
        return directional_distance(student, aggregation, valid=valid)
    if valid is None:
        total = sum_of_squares(student, aggregation)
        return total / (student.numel() if form == 'mean' else student.shape[0])
    squared = (student - aggregation).square()
    return masked_mean(squared, valid) if form == 'mean' else (squared * valid).sum() / student.shape[0]


def group_weights(form: str, groups: int) -> List[float]:
    """Weight of each group, shallow to deep: those of :func:`halving_weights` for ``'sum'`` (Heo et al.), 1 otherwise."""
    return halving_weights(groups) if form == 'sum' else [1.0] * groups


def balance(norm_ts: float, norm_st: float) -> float:
    """gamma_ST that makes both paths pull at beta equally hard: the ratio of their gradients' norms, within [0.1, 10]."""
    low, high = BALANCE_RANGE
    return high if norm_st == 0 else min(max(norm_ts / norm_st, low), high)
