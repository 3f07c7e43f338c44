"""Losses between relations of the images of a batch: similarity-preserving KD, PKT, relational KD.

Every image is one vector: its whole map, in which cells that do not count are 0. Under several processes the relations are
those of each process's share of the batch.
"""
from dataclasses import dataclass
from typing import ClassVar, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..registry import MODELS
from ..utils.options import Flag, option
from .base import FeatureLoss
from .batch import Batch
from .cells import only_valid


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """SP (Tung, Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019): ``||G_t - G_s||^2 / B^2``.

    G is ``F F^T`` of the (B, D) features, each row divided by its norm.

    Args:
        student, teacher: (B, ...), one vector for each image once flattened; the gradient reaches the student only.
    """
    ours, theirs = (feature.flatten(1) for feature in (student, teacher.detach()))
    ours, theirs = (F.normalize(vectors @ vectors.T) for vectors in (ours, theirs))
    return (theirs - ours).square().mean()


def probabilistic_transfer(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """PKT (Passalis, Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018).

    Cosines c of all pairs in the batch as ``(c + 1) / 2``, each row divided by its sum: q. ``mean q_t log((q_t + eps) / (q_s
    + eps))`` over all pairs (the paper adds up).

    Args:
        student, teacher: (B, ...), one vector for each image once flattened; the gradient reaches the student only.
        eps: also added to the norms.
    """
    ours, theirs = (_cosine_distribution(feature.flatten(1), eps) for feature in (student, teacher.detach()))
    return (theirs * torch.log((theirs + eps) / (ours + eps))).mean()


def _cosine_distribution(vectors: Tensor, eps: float) -> Tensor:
    unit = vectors / (vectors.norm(dim=1, keepdim=True) + eps)
    similarity = (unit @ unit.T + 1) / 2
    distribution: Tensor = similarity / similarity.sum(1, keepdim=True)
    return distribution


def relative_distances(student: Tensor, teacher: Tensor, normalise: bool = False) -> Tensor:
    """RKD-D (Park, Kim, Lu, Cho, Relational Knowledge Distillation, CVPR 2019).

    Distances of all pairs, each side's divided by its own mean distance; mean of the Huber loss over all B * B entries.

    Args:
        student, teacher: (B, ...), one vector for each image once flattened; the gradient reaches the student only.
        normalise: whether each vector is divided by its norm first.
    """
    ours, theirs = (_relative_distances(_vectors(feature, normalise)) for feature in (student, teacher.detach()))
    return F.smooth_l1_loss(ours, theirs)


def _vectors(feature: Tensor, normalise: bool) -> Tensor:
    return F.normalize(feature.flatten(1)) if normalise else feature.flatten(1)


def _relative_distances(vectors: Tensor) -> Tensor:
    """(B, B), mean 1 off the diagonal."""
    squares = vectors.square().sum(1)
    # The clamp keeps the root's gradient finite; on the diagonal the distance is 0, whatever rounding says.
    squared = (squares[:, None] + squares[None] - 2 * (vectors @ vectors.T)).clamp(min=1e-12)
    distances = squared.sqrt() * (1 - torch.eye(len(vectors), dtype=vectors.dtype, device=vectors.device))
    return distances / (distances.sum() / max(1, len(vectors) * (len(vectors) - 1))).clamp(min=1e-12)


def angles(student: Tensor, teacher: Tensor, normalise: bool = False) -> Tensor:
    """RKD-A (Park, Kim, Lu, Cho, Relational Knowledge Distillation, CVPR 2019).

    For all triples (i, j, k) of the batch the cosine of the angle at i between the directions to j and to k; mean of the
    Huber loss over all B^3 entries. Takes memory of B^2 times an image's vector.

    Args:
        student, teacher: (B, ...), one vector for each image once flattened; the gradient reaches the student only.
        normalise: whether each vector is divided by its norm first.
    """
    ours, theirs = (_angles(_vectors(feature, normalise)) for feature in (student, teacher.detach()))
    return F.smooth_l1_loss(ours, theirs)


def _angles(vectors: Tensor) -> Tensor:
    directions = F.normalize(vectors[None] - vectors[:, None], dim=2)
    return directions @ directions.transpose(1, 2)


@MODELS.register_module()
class SPLoss(FeatureLoss):
    """Similarity-preserving KD (Tung, Mori, ICCV 2019): :func:`similarity_preserving`.

    In a config::

        sp=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='sp', loss_weight=3000.0)
    """
    short = 'sp'
    widths: ClassVar[str] = 'any'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return similarity_preserving(only_valid(student, valid), only_valid(teacher, valid))


@MODELS.register_module()
class PKTLoss(FeatureLoss):
    """Probabilistic knowledge transfer (Passalis, Tefas, ECCV 2018): :func:`probabilistic_transfer`.

    In a config::

        pkt=dict(type='mmkd.FeatureDistiller', pairs=['neck'], loss='pkt', loss_weight=30000.0)
    """
    short = 'pkt'
    widths: ClassVar[str] = 'any'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return probabilistic_transfer(only_valid(student, valid), only_valid(teacher, valid))


class RelationalLoss(FeatureLoss):
    """What both losses of relational KD share: their option."""
    widths: ClassVar[str] = 'any'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of relational KD."""
        normalise: bool = option(Flag(), False, "whether an image's vector is divided by its norm first, as in mmrazor")

    options: Options


@MODELS.register_module()
class RKDDistanceLoss(RelationalLoss):
    """Relational KD, distances (Park et al., CVPR 2019): :func:`relative_distances`.

    In a config::

        rkd_d=dict(type='mmkd.FeatureDistiller', pairs=['neck'], loss='rkd_distance', loss_weight=25.0)
    """
    short = 'rkd_distance'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return relative_distances(only_valid(student, valid), only_valid(teacher, valid), self.options.normalise)


@MODELS.register_module()
class RKDAngleLoss(RelationalLoss):
    """Relational KD, angles (Park et al., CVPR 2019): :func:`angles`.

    In a config::

        rkd_a=dict(type='mmkd.FeatureDistiller', pairs=['neck'], loss='rkd_angle', loss_weight=50.0)
    """
    short = 'rkd_angle'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return angles(only_valid(student, valid), only_valid(teacher, valid), self.options.normalise)
