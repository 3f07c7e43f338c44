"""Contrastive representation distillation (CRD, Tian, Krishnan, Isola, ICLR 2020): the maths of one step with its memory.

It needs to know which image of the data set is which, and a memory of all of them: a distiller would have to bring both.
"""
from typing import Tuple

import torch
from torch import Tensor

EPS = 1e-7


def unit_rows(embedding: Tensor) -> Tensor:
    """(B, D), each row divided by its norm."""
    unit: Tensor = embedding / embedding.norm(dim=1, keepdim=True)
    return unit


def contrast_scores(embedding: Tensor, memory: Tensor, indices: Tensor, temperature: float = 0.07) -> Tensor:
    """``exp(e . m_j / tau)``, not yet divided by Z.

    Args:
        embedding: (B, D), rows of norm 1.
        memory: (n, D), the other network's; no gradient reaches it.
        indices: (B, 1 + K) int64: the rows that are compared, the positive first.
        temperature: tau.

    Returns:
        (B, 1 + K).
    """
    return torch.exp(torch.einsum('bd,bkd->bk', embedding, memory.detach()[indices]) / temperature)


def contrastive(scores: Tensor, size: int) -> Tensor:
    """The loss of one direction: is a pair of the same image, or one of the K noise pairs?

    ``-mean over images of [log(P / (P + K/n + eps)) + sum over negatives of log((K/n) / (P + K/n + eps))]``.

    Args:
        scores: (B, 1 + K), the positive first: P, :func:`contrast_scores` over their Z.
        size: n, how many images the data set has.
    """
    noise = (scores.shape[1] - 1) / size
    positive = torch.log(scores[:, 0] / (scores[:, 0] + noise + EPS))
    negative = torch.log(noise / (scores[:, 1:] + noise + EPS))
    return -(positive + negative.sum(1)).mean()


def normaliser(scores: Tensor, size: int) -> Tensor:
    """Z, kept from the first batch on: the mean score times n. No gradient passes."""
    return scores.detach().mean() * size


@torch.no_grad()
def updated_memory(memory: Tensor, embedding: Tensor, indices: Tensor, momentum: float = 0.5) -> Tensor:
    """The memory after a batch: its rows become ``momentum * old + (1 - momentum) * embedding``, of norm 1.

    Args:
        memory: (n, D).
        embedding: (B, D).
        indices: (B,) int64, the rows.
        momentum: the share of the old.
    """
    rows = unit_rows(momentum * memory[indices] + (1 - momentum) * embedding)
    return memory.index_copy(0, indices, rows)


def contrast(student: Tensor, teacher: Tensor, memories: Tuple[Tensor, Tensor], indices: Tensor,
             normalisers: Tuple[Tensor, Tensor], temperature: float = 0.07) -> Tuple[Tensor, Tensor]:
    """Both directions: the student's embeddings against the teacher's memory, the teacher's against the student's.

    Args:
        student, teacher: (B, D) embeddings, rows of norm 1.
        memories: the student's and the teacher's, (n, D) each.
        indices: (B, 1 + K) int64, the positive first.
        normalisers: Z of both directions.
        temperature: tau.
    """
    size = len(memories[0])
    ours = contrast_scores(student, memories[1], indices, temperature) / normalisers[0]
    theirs = contrast_scores(teacher, memories[0], indices, temperature) / normalisers[1]
    return contrastive(ours, size), contrastive(theirs, size)
