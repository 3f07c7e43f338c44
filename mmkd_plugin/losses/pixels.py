"""Losses between relations of pixels, for segmentation: pair-wise affinity, cross-image relations, intra-class variation."""
from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..registry import MODELS
from ..taps.shapes import map_size
from ..utils.errors import DistillationError
from ..utils.kinds import TEMPERATURE
from ..utils.options import Flag, Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import average_pool, masked_log_softmax, only_valid, pixels
from .truth import labels_at
from .valid_area import masked_mean


def pairwise_affinity(student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """SKD, pair-wise (Liu et al., Structured Knowledge Distillation for Semantic Segmentation, CVPR 2019).

    2x2 max pooling, then the mean squared difference of the cosines of all pairs of cells of an image.

    Args:
        student, teacher: (B, C_s, H, W) and (B, C_t, H, W); the gradient reaches the student only.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    seen = None if valid is None else F.max_pool2d(valid.to(student.dtype), 2, ceil_mode=True).flatten(2).bool()
    ours, theirs = (_affinity(feature, valid, seen) for feature in (student, teacher.detach()))
    if seen is None:
        return (ours - theirs).square().mean()
    both = seen & seen.transpose(1, 2)
    return ((ours - theirs).square() * both).sum() / both.sum().clamp(min=1)


def _affinity(feature: Tensor, valid: Optional[Tensor], seen: Optional[Tensor]) -> Tensor:
    if valid is not None:
        feature = feature.masked_fill(~valid, torch.finfo(feature.dtype).min)  # the least of its window
    cells = F.max_pool2d(feature, 2, ceil_mode=True).flatten(2)
    if seen is not None:
        cells = cells.where(seen, cells.new_zeros(()))
    unit = F.normalize(cells, dim=1)
    return unit.transpose(1, 2) @ unit


def _relation(first: Tensor, temperature: float, valid: Optional[Tensor]) -> Tensor:
    """Log of the softmaxed similarities of unit vectors of all pairs of images: (B, N, D) -> (B, B, N, N)."""
    similarity = torch.einsum('ipc,jqc->ijpq', first, first) / temperature
    return masked_log_softmax(similarity, None if valid is None else valid[None, :, None, :])


def _relation_divergence(ours: Tensor, theirs: Tensor, temperature: float, valid: Optional[Tensor] = None) -> Tensor:
    """Mean KL of the rows of :func:`_relation` over rows and pairs of images; ``valid`` (B, N) says which of them count."""
    student, teacher = (_relation(unit, temperature, valid) for unit in (ours, theirs))
    rows = (teacher.exp() * (teacher - student)).sum(3)
    if valid is None:
        return rows.mean()
    counts = valid[:, None, :].expand_as(rows)
    return (rows * counts).sum() / counts.sum().clamp(min=1)


def cross_image_pixels(student: Tensor, teacher: Tensor, temperature: float = 0.1, pool: bool = False,
                       valid: Optional[Tensor] = None) -> Tensor:
    """CIRKD, mini-batch pixel-to-pixel (Yang et al., Cross-Image Relational Knowledge Distillation, CVPR 2022).

    For all pairs of images, the cosines of every pixel of one with all pixels of the other, softmaxed at tau: KL between
    teacher and student, mean over pixels and pairs. Takes memory of (B * H * W)^2.

    Args:
        student, teacher: (B, C_s, H, W) and (B, C_t, H, W); the gradient reaches the student only.
        temperature: tau.
        pool: whether windows of 4 x 4 cells are averaged first.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    teacher, seen = teacher.detach(), valid
    if pool:
        student, _ = average_pool(student, valid, 4)
        teacher, seen = average_pool(teacher, valid, 4)
    ours, theirs = (F.normalize(pixels(only_valid(feature, seen)), dim=2) for feature in (student, teacher))
    return _relation_divergence(ours, theirs, temperature, None if seen is None else seen.flatten(1))


def cross_image_channels(student: Tensor, teacher: Tensor, temperature: float = 0.1,
                         valid: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """CIRKDV2, mini-batch channel-to-channel (Yang et al., the extended CIRKD).

    Windows of 4 x 4 cells are averaged, each channel is divided by its norm. Then for all pairs of images the cosines of
    every channel of one with all channels of the other, softmaxed at tau: KL between teacher and student, mean over channels
    and pairs.

    Args:
        student, teacher: (B, C, H, W); the gradient reaches the student only.
        temperature: tau.
        valid: (B, 1, H, W) bool, the cells that count; all where None.

    Returns:
        That, and the mean squared difference of the channels so divided.
    """
    student, seen = average_pool(student, valid, 4)
    teacher, _ = average_pool(teacher.detach(), valid, 4)
    ours, theirs = (F.normalize(only_valid(feature, seen).flatten(2), dim=2) for feature in (student, teacher))
    squares = (ours - theirs).square().view_as(student)
    return _relation_divergence(ours, theirs, temperature), masked_mean(squares, seen)


def class_cosines(feature: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The cosine of every pixel with the centre of its class in its image (IFVD).

    A centre is the sum of the features of a class over (their count + 1e-6). A pixel of no class is its own centre, as in
    the authors' code: its cosine is 1 (0 where its feature is 0).

    Args:
        feature: (B, C, H, W).
        labels: (B, H, W) int64; what is outside of 0 to ``classes - 1`` is of no class.
        classes: how many there are.

    Returns:
        (B, H, W).
    """
    cells, numbered = pixels(feature), labels.flatten(1)
    none = (numbered < 0) | (numbered >= classes)
    where = numbered.masked_fill(none, classes)[..., None].expand_as(cells)
    sums = cells.new_zeros(len(cells), classes + 1, cells.shape[2]).scatter_add(1, where, cells)
    counts = cells.new_zeros(len(cells), classes + 1).scatter_add(1, where[..., 0], cells.new_ones(numbered.shape))
    centres = (sums / (counts + 1e-6)[..., None]).gather(1, where)
    return F.cosine_similarity(cells, torch.where(none[..., None], cells, centres), dim=2).view_as(labels)


def intra_class_variation(student: Tensor, teacher: Tensor, labels: Tensor, classes: int,
                          valid: Optional[Tensor] = None) -> Tensor:
    """IFVD (Wang et al., Intra-class Feature Variation Distillation, ECCV 2020): mean squared difference of the two
    :func:`class_cosines`. Pixels of no class add 0 and count in the mean.

    Args:
        student, teacher: (B, C_s, H, W) and (B, C_t, H, W); the gradient reaches the student only.
        labels: (B, H, W) int64; what is outside of 0 to ``classes - 1`` is of no class.
        classes: how many there are.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    if valid is not None:
        labels = labels.where(valid.squeeze(1), torch.full_like(labels, -1))  # they belong to no centre
    ours, theirs = (class_cosines(feature, labels, classes) for feature in (student, teacher.detach()))
    return masked_mean((ours - theirs).square().unsqueeze(1), valid)


@MODELS.register_module()
class SKDPairwiseLoss(FeatureLoss):
    """Structured KD, pair-wise (Liu et al., CVPR 2019): :func:`pairwise_affinity`, pooled 2x2 as in the code of CIRKD.

    In a config::

        skd=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='skd_pairwise')
    """
    short = 'skd_pairwise'
    widths: ClassVar[str] = 'any'

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return pairwise_affinity(student, teacher, valid)


@MODELS.register_module()
class CIRKDPixelLoss(FeatureLoss):
    """Cross-image relations of pixels (Yang et al., CVPR 2022), those of the batch: :func:`cross_image_pixels`.

    The memory bank of the paper is left out.

    In a config::

        cirkd=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='cirkd_pixel')
    """
    short = 'cirkd_pixel'
    widths: ClassVar[str] = 'any'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of cross-image relations of pixels."""
        temperature: float = option(TEMPERATURE, 0.1, 'tau of the softmax')
        pool: bool = option(Flag(), False, 'whether windows of 4 x 4 cells are averaged first, as the authors do from '
                            '256 x 256 cells on')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        return cross_image_pixels(student, teacher, self.options.temperature, self.options.pool, valid)


@MODELS.register_module()
class CIRKDChannelLoss(FeatureLoss):
    """Cross-image relations of channels (CIRKDV2), those of the batch: both parts of :func:`cross_image_channels`, added.

    The memory bank of the paper is left out; the student's projection is the distiller's adapter.

    In a config::

        cirkd=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='cirkd_channel')
    """
    short = 'cirkd_channel'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of cross-image relations of channels."""
        temperature: float = option(TEMPERATURE, 0.1, 'tau of the softmax')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        relation, squares = cross_image_channels(student, teacher, self.options.temperature, valid)
        return relation + squares


@MODELS.register_module()
class IFVDLoss(FeatureLoss):
    """Intra-class feature variation (Wang et al., ECCV 2020): :func:`intra_class_variation`. Needs label maps.

    In a config::

        ifvd=dict(type='mmkd.FeatureDistiller', pairs=['decode_head.conv_seg@in'], loss='ifvd', loss_weight=200.0)
    """
    short = 'ifvd'
    widths: ClassVar[str] = 'any'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of intra-class variation."""
        classes: int = option(Number(least=1, most=65536, whole=True), 255,
                              'how many classes there are; pixels with a label from there on are of no class')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        if batch is None:
            raise DistillationError('needs the batch, for its labels', path='loss', given='mmkd.IFVDLoss')
        return intra_class_variation(student, teacher, labels_at(batch, map_size(student)), self.options.classes, valid)
