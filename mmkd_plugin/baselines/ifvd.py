"""``mmkd.IFVDDistiller``: intra-class feature variation (Wang et al., ECCV 2020), without the adversarial term."""
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from ..distiller import Batch, Distiller, Features, Pairs, ParsedPair
from ..losses import kl_divergence, pixel_labels
from ..losses.pixels import intra_class_variation
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import resize, widened
from ..utils.errors import DistillationError
from ..utils.options import Number, option
from .logits import check_same_classes


@MODELS.register_module()
class IFVDDistiller(Distiller):
    """The student's pixels are as similar to the prototype of their class as the teacher's are; and its logits follow.

    Losses: ``loss_variation``: :func:`~mmkd_plugin.losses.pixels.intra_class_variation`, labels resized to the feature by
    nearest neighbour; each pixel that is ignored is its own prototype, as in the authors' code: it adds 0 to the mean.
    ``loss_logits``: KL of the class scores at temperature 1, the mean over all B * K * H * W elements, as in the authors'
    code.

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
                                   'samples have it; they add nothing')

        def check(self, given: Sequence[str]) -> None:
            super().check(given)
            if not self.variation_weight and not self.logits_weight:
                raise DistillationError('and variation_weight are both 0: it would never act', path='logits_weight',
                                        given=self.logits_weight, accepted='a number > 0 for one of them')

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
        feature = widened(student[self.features.student])
        size = feature.shape[2:]
        logits = widened(student[self.logits.student])
        classes = max(2, logits.shape[1])  # one channel tells two classes apart
        labels = labels.masked_fill(labels == self.options.ignore_index, -1)
        labels = F.interpolate(labels.float(), size, mode='nearest').squeeze(1).long()
        target = resize(widened(teacher[self.features.teacher]), size)
        variation = intra_class_variation(feature, target, labels, classes)
        divergence = kl_divergence(logits, resize(widened(teacher[self.logits.teacher]), logits.shape[2:]), 1.0)
        return dict(loss_variation=variation * self.options.variation_weight,
                    loss_logits=divergence.mean() / logits.shape[1] * self.options.logits_weight)
