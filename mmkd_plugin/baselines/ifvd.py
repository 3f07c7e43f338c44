"""``mmkd.IFVDDistiller``: intra-class feature variation (Wang et al., ECCV 2020), without the adversarial term."""
from typing import Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.distiller import Batch, Distiller
from ..core.errors import DistillationError, check_number
from ..core.shapes import match_size
from ..core.taps import TapInfo
from ..core.validity import pixel_labels
from ..registry import MODELS
from .logits import soft_cross_divergence


def class_similarity(feature: Tensor, labels: Tensor, count: int) -> Tensor:
    """Cosine similarity of every pixel with the prototype of its class in its image (the paper's equations 1 and 2).

    A prototype is the mean feature of the pixels with one label in one image. What is ignored has a label, and a prototype,
    of its own.

    Args:
        feature: (B, C, H, W).
        labels: (B, H, W) int64, from 0 to ``count - 1``.
        count: of labels, what is ignored included; given, so that nothing waits for the device.

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
        count: of labels, what is ignored included; given, so that nothing waits for the device.
    """
    return F.mse_loss(class_similarity(student, labels, count), class_similarity(teacher.detach(), labels, count).detach())


@MODELS.register_module()
class IFVDDistiller(Distiller):
    """The student's pixels are as similar to the prototype of their class as the teacher's are; and its logits follow.

    Args:
        student: tap of the feature before the student's classifier, e.g. ``'decode_head.conv_seg@in'``.
        teacher: of the teacher's; the same address by default.
        student_logits, teacher_logits: taps of the class scores of every pixel.
        variation_weight, logits_weight: of the two losses; the authors'.
        ignore_index: label of pixels that do not count, as the data samples have it.
        loss_weight, begin, end, warmup and others: see :class:`~mmkd_plugin.core.Distiller`.

    Losses: ``loss_variation``: :func:`variation_loss`, labels resized to the feature by nearest neighbour; pixels that are
    ignored have a prototype of their own, as in the authors' code. ``loss_logits``: KL of the class scores at temperature 1,
    the mean over all B * K * H * W elements, as in the authors' code.

    Raises:
        DistillationError: for a weight below 0; when training starts, if the numbers of classes differ, or there are no
            label maps.
    """

    def __init__(self, student: str = 'decode_head.conv_seg@in', teacher: Optional[str] = None,
                 student_logits: str = 'decode_head.conv_seg', teacher_logits: Optional[str] = None,
                 variation_weight: float = 200.0, logits_weight: float = 10.0, ignore_index: int = 255, **schedule):
        super().__init__(**schedule)
        check_number('variation_weight', variation_weight, least=0)
        check_number('logits_weight', logits_weight, least=0)
        check_number('ignore_index', ignore_index, least=0, whole=True)
        self.features = student, teacher or student
        self.logits = student_logits, teacher_logits or student_logits
        self.student_taps, self.teacher_taps = ([self.features[side], self.logits[side]] for side in (0, 1))
        self.variation_weight, self.logits_weight, self.ignore_index = variation_weight, logits_weight, ignore_index

    def prepare(self, student: Dict[str, TapInfo], teacher: Dict[str, TapInfo], name: str) -> None:
        self.name = name
        ours, theirs = student[self.logits[0]], teacher[self.logits[1]]
        if ours.channels != theirs.channels:
            raise DistillationError(f'model.distillers.{name}: the student has {ours.channels} classes ({self.logits[0]}), '
                                    f'the teacher {theirs.channels} ({self.logits[1]}); accepted: the same.')

    def forward(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor], batch: Batch) -> Dict[str, Tensor]:
        labels = pixel_labels(batch.data_samples)
        if labels is None:
            raise DistillationError(f'model.distillers.{self.name}: the data samples have no label maps (gt_sem_seg). '
                                    'Accepted: a data set for semantic segmentation.')
        feature = student[self.features[0]].float()
        size = feature.shape[2:]
        logits = student[self.logits[0]].float()
        classes = max(2, logits.shape[1])  # one channel tells two classes apart
        # What is ignored (and what another codebase marks with a negative number) is one label more.
        labels = torch.where((labels < 0) | (labels == self.ignore_index) | (labels >= classes), classes, labels)
        labels = F.interpolate(labels.float(), size, mode='nearest').squeeze(1).long()
        variation = variation_loss(feature, match_size(teacher[self.features[1]].float(), size), labels, classes + 1)
        divergence = soft_cross_divergence(logits, match_size(teacher[self.logits[1]].float(), logits.shape[2:]), 1.0)
        return dict(loss_variation=variation * self.variation_weight,
                    loss_logits=divergence.mean() / logits.shape[1] * self.logits_weight)
