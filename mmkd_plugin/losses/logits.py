"""Losses between class scores, one value for each image or pixel: KL, DKD, NKD, WSLD.

Classes stand in dimension 1 throughout: (B, K), or (B, K, H, W). The gradient reaches the student only.
"""
from dataclasses import dataclass
from typing import ClassVar, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..registry import MODELS
from ..utils.kinds import TEMPERATURE
from ..utils.options import Number, option
from .base import LogitsLoss
from .divergences import kl_divergence
from .valid_area import masked_mean


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """The scores of all classes but the labelled one, in their order: (B, K - 1, ...)."""
    count = logits.shape[1] - 1
    number = torch.arange(count, device=logits.device).view(1, count, *[1] * (logits.dim() - 2))
    return logits.gather(1, number + (number >= labels.unsqueeze(1)))


def decoupled(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0, alpha: float = 1.0,
              beta: float = 8.0) -> Tensor:
    """``alpha * TCKD + beta * NCKD`` (DKD: Zhao et al., Decoupled Knowledge Distillation, CVPR 2022).

    TCKD is ``T^2 * KL`` between the two-way distributions (target class, all others together), NCKD ``T^2 * KL`` between the
    softmaxes over the others.

    Args:
        student, teacher: (B, K) or (B, K, H, W), K > 1.
        labels: (B,) or (B, H, W) int64, from 0 to K - 1.
        temperature: T.
        alpha, beta: weights of the two parts.

    Returns:
        (B,) or (B, H, W).
    """
    ours, theirs = student / temperature, teacher.detach() / temperature
    our_others, their_others = _others(ours, labels), _others(theirs, labels)
    target = kl_divergence(_target_and_rest(ours, our_others, labels), _target_and_rest(theirs, their_others, labels), 1.0)
    return temperature ** 2 * (alpha * target + beta * kl_divergence(our_others, their_others, 1.0))


def _target_and_rest(logits: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """The scores of two classes, the labelled one and all others together: (B, 2, ...)."""
    return torch.cat([logits.gather(1, labels.unsqueeze(1)), others.logsumexp(1, keepdim=True)], 1)


def normalised(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0, gamma: float = 1.5) -> Tensor:
    """NKD (Yang et al., From Knowledge Distillation to Self-Knowledge Distillation, ICCV 2023).

    ``-t_y * log(s_y) - gamma * T^2 * sum over k != y of t'_k * log(s'_k)``: y the labelled class, t and s the probabilities
    at T = 1, t' and s' those of the other classes among themselves at T. Cross entropies: not 0 where both sides agree.

    Args:
        student, teacher: (B, K) or (B, K, H, W), K > 1.
        labels: (B,) or (B, H, W) int64, from 0 to K - 1.
        temperature: T.
        gamma: weight of the second part.

    Returns:
        (B,) or (B, H, W).
    """
    teacher, target = teacher.detach(), labels.unsqueeze(1)
    of_target = F.softmax(teacher, 1).gather(1, target) * F.log_softmax(student, 1).gather(1, target)
    ours, theirs = (_others(logits, labels) / temperature for logits in (student, teacher))
    of_others = F.softmax(theirs, 1) * F.log_softmax(ours, 1)
    return -of_target.squeeze(1) - gamma * temperature ** 2 * of_others.sum(1)


def weighted_soft_labels(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 2.0) -> Tensor:
    """WSLD (Zhou et al., Rethinking Soft Labels for Knowledge Distillation, ICLR 2021).

    ``w * T^2 * CE(softmax(t / T), softmax(s / T))`` with ``w = 1 - exp(-L_s / L_t)``, L_s and L_t the cross entropies with
    the label at T = 1. No gradient passes w; 1e-7 is added to L_t.

    Args:
        student, teacher: (B, K) or (B, K, H, W).
        labels: (B,) or (B, H, W) int64, from 0 to K - 1.
        temperature: T.

    Returns:
        (B,) or (B, H, W).
    """
    teacher = teacher.detach()
    hard = [F.cross_entropy(logits, labels, reduction='none') for logits in (student.detach(), teacher)]
    weight = 1 - torch.exp(-(hard[0] / (hard[1] + 1e-7)).clamp(min=0))
    soft = -(F.softmax(teacher / temperature, 1) * F.log_softmax(student / temperature, 1)).sum(1)
    return weight * temperature ** 2 * soft


def _mean(values: Tensor, valid: Optional[Tensor]) -> Tensor:
    """Mean of (B,) or (B, H, W) over what counts."""
    return values.mean() if valid is None else masked_mean(values.unsqueeze(1), valid)


def _given(labels: Optional[Tensor]) -> Tensor:
    assert labels is not None, 'a loss that needs labels is given them'
    return labels


@MODELS.register_module()
class KLLoss(LogitsLoss):
    """KD (Hinton, Vinyals, Dean, 2015): :func:`.kl_divergence` of the class scores, mean over images or pixels.

    In a config::

        kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss=dict(type='mmkd.KLLoss', temperature=4.0))
    """
    short = 'kl'

    @dataclass(frozen=True, kw_only=True)
    class Options(LogitsLoss.Options):
        """The options of KD."""
        temperature: float = option(TEMPERATURE, 1.0, "T of the softmax; its square keeps the gradient's scale")

    options: Options

    def compare(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor], labels: Optional[Tensor]) -> Tensor:
        return _mean(kl_divergence(student, teacher, self.options.temperature), valid)


@MODELS.register_module()
class DKDLoss(LogitsLoss):
    """Decoupled KD (Zhao et al., CVPR 2022): :func:`decoupled`, mean over images or pixels. Needs labels.

    In a config::

        kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss=dict(type='mmkd.DKDLoss', alpha=1.0, beta=8.0))
    """
    short = 'dkd'
    needs_labels: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Options(LogitsLoss.Options):
        """The options of DKD."""
        temperature: float = option(TEMPERATURE, 4.0, 'T of the softmax')
        alpha: float = option(Number(least=0), 1.0, 'weight of the target class')
        beta: float = option(Number(least=0), 8.0, 'weight of the other classes')

    options: Options

    def compare(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor], labels: Optional[Tensor]) -> Tensor:
        options = self.options
        return _mean(decoupled(student, teacher, _given(labels), options.temperature, options.alpha, options.beta), valid)


@MODELS.register_module()
class NKDLoss(LogitsLoss):
    """Normalised KD (Yang et al., ICCV 2023): :func:`normalised`, mean over images or pixels. Needs labels.

    In a config::

        kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss=dict(type='mmkd.NKDLoss', gamma=1.5))
    """
    short = 'nkd'
    needs_labels: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Options(LogitsLoss.Options):
        """The options of NKD."""
        temperature: float = option(TEMPERATURE, 1.0, 'T among the other classes; the target class has T = 1')
        gamma: float = option(Number(least=0), 1.5, 'weight of the other classes')

    options: Options

    def compare(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor], labels: Optional[Tensor]) -> Tensor:
        options = self.options
        return _mean(normalised(student, teacher, _given(labels), options.temperature, options.gamma), valid)


@MODELS.register_module()
class WSLDLoss(LogitsLoss):
    """Weighted soft labels (Zhou et al., ICLR 2021): :func:`weighted_soft_labels`, mean over images or pixels. Needs labels.

    In a config::

        kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss=dict(type='mmkd.WSLDLoss', temperature=2.0))
    """
    short = 'wsld'
    needs_labels: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Options(LogitsLoss.Options):
        """The options of WSLD."""
        temperature: float = option(TEMPERATURE, 2.0, 'T of the softmax')

    options: Options

    def compare(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor], labels: Optional[Tensor]) -> Tensor:
        return _mean(weighted_soft_labels(student, teacher, _given(labels), self.options.temperature), valid)
