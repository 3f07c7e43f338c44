"""Matching teacher channels to student channels: the cost and the assignment problems (MGD; after the authors' code).

C_s, C_t are the channels of student and teacher, g = floor(C_t / C_s) the group size, n = H * W.
"""
from typing import Tuple, Union

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..utils.errors import DistillationError

SURPLUS_CHOICES = ('shave', 'select')


def similarity_sum(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosine of every student channel with every teacher channel, per sample, summed over the samples.

    Args:
        student: (B, C_s, H, W), raw (before the extra norm), pre-activation.
        teacher: (B, C_t, H, W), at the same resolution.

    Returns:
        (C_s, C_t), on the device of the features. A channel that is all zero has similarity 0 with everything.

    Raises:
        DistillationError: if batch or resolution differ.
    """
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise DistillationError(f'features cannot be matched: student {tuple(student.shape)}, teacher '
                                f'{tuple(teacher.shape)}; batch, height and width must be equal')
    student = F.normalize(student.flatten(2).float(), dim=2, eps=1e-12)
    teacher = F.normalize(teacher.flatten(2).float(), dim=2, eps=1e-12)
    return torch.einsum('bjn,bcn->jc', student, teacher)


def cost_matrix(similarity: Tensor, samples: Union[int, Tensor]) -> Tensor:
    """D = 2 - 2 * mean cosine: the mean squared distance of unit channels, entries in [0, 4].

    Args:
        similarity: (C_s, C_t), :func:`similarity_sum` added up over all batches.
        samples: number of images it was added up over.
    """
    return 2 - 2 * similarity / samples


def assign_groups(cost: Tensor, surplus: str = 'shave') -> Tensor:
    """Many-to-one: g distinct teacher channels for every student channel, at the least total cost.

    Args:
        cost: (C_s, C_t) with C_s <= C_t.
        surplus: what happens to the C_t mod C_s channels that are left over: ``'shave'`` never uses the last ones (the
            authors' code), ``'select'`` leaves out those that cost most (a rectangular problem; never worse).

    Returns:
        (C_s, g) int64: row j holds the teacher channels of student channel j; their order means nothing.

    Raises:
        DistillationError: if the student is wider than the teacher.
    """
    channels_s, channels_t = cost.shape
    if channels_s > channels_t:
        raise DistillationError(f'the student has more channels ({channels_s}) than the teacher ({channels_t}): '
                                'many-to-one matching needs at least as many teacher channels')
    group = channels_t // channels_s
    if surplus == 'shave':
        cost = cost[:, :group * channels_s]
    copies = cost.repeat(group, 1)  # row k * C_s + j is copy k of student channel j
    return _solve(copies).view(group, channels_s).t().contiguous()


def assign_single(cost: Tensor) -> Tensor:
    """Sparse matching: one distinct teacher channel, chosen among all C_t, for every student channel.

    Args:
        cost: (C_s, C_t) with C_s <= C_t.

    Returns:
        (C_s, 1) int64.
    """
    if cost.shape[0] > cost.shape[1]:
        raise DistillationError(f'the student has more channels ({cost.shape[0]}) than the teacher ({cost.shape[1]}): '
                                'sparse matching needs at least as many teacher channels')
    return _solve(cost).view(-1, 1)


def assign_shared(cost: Tensor) -> Tensor:
    """One-to-many, for a student that is wider than its teacher: the transposed problem.

    Every student channel gets one teacher channel; a teacher channel serves at most ceil(C_s / C_t) student channels.

    Args:
        cost: (C_s, C_t) with C_s > C_t.

    Returns:
        (C_s, 1) int64.
    """
    channels_s, channels_t = cost.shape
    copies = -(-channels_s // channels_t)
    return (_solve(cost.repeat(1, copies)) % channels_t).view(-1, 1)


def group_shape(channels_s: int, channels_t: int, single: bool) -> Tuple[int, int]:
    """Shape of the assignment that :func:`assign` will return."""
    return channels_s, 1 if single or channels_s > channels_t else channels_t // channels_s


def assign(cost: Tensor, single: bool = False, surplus: str = 'shave') -> Tensor:
    """Picks the problem that fits the widths; see :func:`assign_groups`, :func:`assign_single`, :func:`assign_shared`."""
    if cost.shape[0] > cost.shape[1]:
        return assign_shared(cost)
    return assign_single(cost) if single else assign_groups(cost, surplus)


def assignment_cost(cost: Tensor, assignment: Tensor) -> float:
    """Total cost sum_j sum_k D[j, G[j, k]] of an assignment (C_s, g)."""
    return float(cost.gather(1, assignment.to(cost.device)).sum())


def _solve(cost: Tensor) -> Tensor:
    # In float64, without the authors' truncation to integers: near-ties (< 1e-5) may come out differently.
    rows, columns = linear_sum_assignment(cost.detach().cpu().double().numpy())
    solution = torch.empty(len(rows), dtype=torch.long)
    solution[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return solution
