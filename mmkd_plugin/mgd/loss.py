"""The partial distillation loss of MGD (and of Overhaul, Heo et al. 2019)."""
import torch
from torch import Tensor

from ..utils.errors import DistillationError


def partial_l2(source: Tensor, target: Tensor, margin: Tensor) -> Tensor:
    """Squared error, except where the teacher is not active and the student is at least as negative.

    ``y = max(target, margin)``; ``(x - y)^2`` where ``x > y`` or ``y > 0``, else 0.

    Args:
        source: (B, C, H, W), the student's feature x, after the extra norm.
        target: (B, C, H, W), the reduced teacher feature; no gradient flows into it.
        margin: (C,), the reduced margins.

    Returns:
        (B, C, H, W), not reduced.

    Raises:
        DistillationError: if the shapes differ.
    """
    if source.shape != target.shape:
        raise DistillationError(f'partial loss: student {tuple(source.shape)} and target {tuple(target.shape)} differ')
    target = torch.maximum(target.detach(), margin.detach().view(1, -1, 1, 1))
    counts = (source > target) | (target > 0)
    return (source - target).square() * counts
