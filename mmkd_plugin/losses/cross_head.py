"""CrossKD (Wang et al., CVPR 2024), the maths: a student's feature goes through the rest of the teacher's head.

A distiller would have to run part of the teacher's head on it, in each detector's own way.
"""
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

FACTOR_EPS = torch.finfo(torch.float32).eps


def align_statistics(student: Tensor, teacher: Tensor, eps: float = 1e-6) -> Tensor:
    """The student's feature with the mean and the deviation (unbiased) of each of the teacher's channels.

    Args:
        student, teacher: (B, C, H, W); statistics over images and cells. No gradient reaches the teacher.
        eps: added to the student's deviation.
    """
    dims = (0, 2, 3)
    teacher = teacher.detach()
    centred = (student - student.mean(dims, keepdim=True)) / (student.std(dims, keepdim=True) + eps)
    return centred * teacher.std(dims, keepdim=True) + teacher.mean(dims, keepdim=True)


def weighted(values: Tensor, weights: Optional[Tensor], factor: Optional[float]) -> Tensor:
    """Sum of weighted values over a factor, as mm losses are averaged; the mean where there is no factor.

    Args:
        values: any shape.
        weights: broadcasts to its shape; None for none.
        factor: what the sum is divided by (plus the epsilon of float32).
    """
    if weights is not None:
        values = values * weights
    return values.mean() if factor is None else values.sum() / (factor + FACTOR_EPS)


def quality_focal(student: Tensor, teacher: Tensor, beta: float = 1.0, weights: Optional[Tensor] = None,
                  factor: Optional[float] = None) -> Tensor:
    """``|sigmoid(s) - q|^beta * BCE(s, q)`` with ``q = sigmoid(t)``, averaged by :func:`weighted`.

    Args:
        student, teacher: (N, K) class scores; the gradient reaches the student only.
        beta: the focus on where they differ.
        weights: (N, 1), or None.
        factor: what the sum is divided by.
    """
    quality = teacher.detach().sigmoid()
    entropy = F.binary_cross_entropy_with_logits(student, quality, reduction='none')
    return weighted((student.sigmoid() - quality).abs().pow(beta) * entropy, weights, factor)


def box_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, weights: Optional[Tensor] = None,
                   factor: Optional[float] = None, mean_over_bins: bool = False) -> Tensor:
    """``T^2 * KL`` of the distributions of a box's sides (LD; Zheng et al., CVPR 2022), averaged by :func:`weighted`.

    Args:
        student, teacher: (N, bins) logits; the gradient reaches the student only.
        temperature: T.
        weights: (N,), or None.
        factor: what the sum is divided by.
        mean_over_bins: whether the KL is divided by the number of bins, as in LD's code.
    """
    ours, theirs = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher.detach()))
    terms = theirs.exp() * (theirs - ours)
    return weighted((terms.mean(1) if mean_over_bins else terms.sum(1)) * temperature ** 2, weights, factor)
