"""``mmkd.IFVDDistiller``: intra-class feature variation (Wang et al., ECCV 2020), without the adversarial term."""
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distiller import Batch, Distiller, Features, Pairs, ParsedPair
from ..losses import kl_divergence, pixel_labels
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import resize
from ..utils.errors import DistillationError
from ..utils.options import Number, option
from .logits import check_same_classes


def class_similarity(feature: Tensor, labels: Tensor, count: int) -> Tensor:
    """Cosine similarity of every pixel with the prototype of its class in its image (the paper's equations 1 and 2).

    A prototype is the mean feature of the pixels with one label in one image. What is ignored has a label, and a prototype,
    of its own.

    Args:
        feature: (B, C, H, W).
        labels: (B, H, W) int64, from 0 to ``count - 1``.
        count: how many labels there are, the one of ignored pixels included; given, so that nothing waits for the device.

    Returns:
        (B, H, W).
    """
    batch, channels = feature.shape[:2]
    numbered, pixels = labels.flatten(1), feature.flatten(2).transpose(1, 2)
    where = numbered[..., None].expand(-1, -1, channels)
    sums = pixels.new_zeros(batch, count, channels).scatter_add(1, where, pixels)
    sizes = pixels.new_zeros(batch, count).scatter_add(1, numbered, pixels.new_ones(numbered.shape))
    prototypes = sums / sizes.clamp(min=1)[..., None]
    return F.cosine_similarity(pixels, prototypes.gather(1, where), dim=2).view_as(labels)


def variation_loss(student: Tensor, teacher: Tensor, labels: Tensor, count: int) -> Tensor:
    """Mean over all pixels of the squared difference of the two :func:`class_similarity` maps (equation 3).

    Args:
        student, teacher: (B, C_s, H, W) and (B, C_t, H, W).
        labels: (B, H, W) int64, from 0 to ``count - 1``.
        count: how many labels there are, the one of ignored pixels included; given, so that nothing waits for the device.
    """
    return F.mse_loss(class_similarity(student, labels, count), class_similarity(teacher.detach(), labels, count).detach())


@MODELS.register_module()
class IFVDDistiller(Distiller):
    """The student's pixels are as similar to the prototype of their class as the teacher's are; and its logits follow.

    Losses: ``loss_variation``: :func:`variation_loss`, labels resized to the feature by nearest neighbour; pixels that are
    ignored have a prototype of their own, as in the authors' code. ``loss_logits``: KL of the class scores at temperature 1,
    the mean over all B * K * H * W elements, as in the authors' code.

    Raises:
        DistillationError: for options that do not fit; when training starts, if the numbers of classes differ, or there are
            no label maps.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Distiller.Options):
        """The options of IFVD."""
        renamed = dict(student='Write pairs=[(<student tap>, <teacher tap>)].',
                       teacher='Write pairs=[(<student tap>, <teacher tap>)].',
                       student_logits='Write logits=[(<student tap>, <teacher tap>)].',
                       teacher_logits='Write logits=[(<student tap>, <teacher tap>)].')
        pairs: List[ParsedPair] = option(
            Pairs(length=1), (ParsedPair('decode_head.conv_seg@in', 'decode_head.conv_seg@in'),),
            'taps of the feature before the classifier, one pair; the widths may differ')
        logits: List[ParsedPair] = option(
            Pairs(length=1), (ParsedPair('decode_head.conv_seg', 'decode_head.conv_seg'),),
            'taps of the class scores of every pixel, one pair')
        variation_weight: float = option(Number(least=0), 200.0, "weight of `loss_variation`; the authors'")
        logits_weight: float = option(Number(least=0), 10.0, "weight of `loss_logits`; the authors'")
        ignore_index: int = option(Number(least=0, whole=True), 255, 'label of pixels that do not count, as the data '
                                   'samples have it; they are a class of their own')

    options: Options

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.features, self.logits = self.options.pairs[0], self.options.logits[0]
        self.student_taps = [self.features.student, self.logits.student]
        self.teacher_taps = [self.features.teacher, self.logits.teacher]

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        check_same_classes(student[self.logits.student], teacher[self.logits.teacher])

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        labels = pixel_labels(batch.data_samples)
        if labels is None:
            raise DistillationError('the data samples have no label maps (gt_sem_seg)',
                                    accepted='a data set for semantic segmentation')
        feature = student[self.features.student].float()
        size = feature.shape[2:]
        logits = student[self.logits.student].float()
        classes = max(2, logits.shape[1])  # one channel tells two classes apart
        # What is ignored (and what another codebase marks with a negative number) is one label more.
        ignored = (labels < 0) | (labels == self.options.ignore_index) | (labels >= classes)
        labels = torch.where(ignored, classes, labels)
        labels = F.interpolate(labels.float(), size, mode='nearest').squeeze(1).long()
        variation = variation_loss(feature, resize(teacher[self.features.teacher].float(), size), labels, classes + 1)
        divergence = kl_divergence(logits, resize(teacher[self.logits.teacher].float(), logits.shape[2:]), 1.0)
        return dict(loss_variation=variation * self.options.variation_weight,
                    loss_logits=divergence.mean() / logits.shape[1] * self.options.logits_weight)
