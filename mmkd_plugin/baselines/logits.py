"""``mmkd.LogitsDistiller``: knowledge distillation on class scores (Hinton, Vinyals, Dean, 2015)."""
from typing import Dict, Optional

import torch.nn.functional as F
from torch import Tensor

from ..core.distiller import Batch, Distiller
from ..core.errors import DistillationError, check_number
from ..core.shapes import match_size
from ..core.taps import TapInfo
from ..core.validity import ValidArea, masked_mean
from ..registry import MODELS


def soft_cross_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(t / T) || softmax(s / T)) over dimension 1, not reduced over the others.

    Args:
        student, teacher: (B, K) or (B, K, H, W) logits of K classes.
        temperature: T.

    Returns:
        (B,) or (B, H, W).
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher.detach() / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(1) * temperature ** 2


@MODELS.register_module()
class LogitsDistiller(Distiller):
    """The student's class scores follow the teacher's, softened by a temperature.

    Args:
        student: tap of the student's logits, e.g. ``'head.fc'`` (mmpretrain) or ``'decode_head.conv_seg'`` (mmseg).
        teacher: tap of the teacher's; the same address by default.
        temperature: T. Hinton's T^2 keeps the gradient's scale.
        ignore_index: label of pixels that do not count, for dense logits; the value the data samples use.
        loss_weight, loss_scale and others: see :class:`~mmkd_plugin.core.Distiller`.

    Losses: ``loss_kd``, the mean over images, or over the pixels that are no padding and have a label.

    Raises:
        DistillationError: for a temperature that is not positive; when training starts, if the numbers of classes differ,
            or one side scores images and the other pixels.
    """

    def __init__(self, student: str, teacher: Optional[str] = None, temperature: float = 1.0, ignore_index: int = 255,
                 **schedule):
        super().__init__(**schedule)
        check_number('temperature', temperature, above=0)
        self.student_tap, self.teacher_tap = student, teacher or student
        self.student_taps, self.teacher_taps = [self.student_tap], [self.teacher_tap]
        self.temperature = temperature
        self.valid_area = ValidArea(True, ignore_index)

    def prepare(self, student: Dict[str, TapInfo], teacher: Dict[str, TapInfo], name: str) -> None:
        ours, theirs = student[self.student_tap], teacher[self.teacher_tap]
        if (ours.size is None) != (theirs.size is None):
            kinds = ['scores images' if info.size is None else 'scores pixels' for info in (ours, theirs)]
            raise DistillationError(f'model.distillers.{name}: student and teacher solve different tasks: the student '
                                    f'({self.student_tap}) {kinds[0]}, the teacher ({self.teacher_tap}) {kinds[1]}. '
                                    'Features can still be distilled, logits cannot.')
        if ours.channels != theirs.channels:
            raise DistillationError(f'model.distillers.{name}: the student has {ours.channels} classes '
                                    f'({self.student_tap}), the teacher {theirs.channels} ({self.teacher_tap}); logits need '
                                    'the same classes. Set num_classes in model.teacher.overrides, or give a teacher of the '
                                    'same data set.')

    def forward(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor], batch: Batch) -> Dict[str, Tensor]:
        ours, theirs = student[self.student_tap].float(), teacher[self.teacher_tap].float()
        if ours.dim() == 2:
            return dict(loss_kd=soft_cross_divergence(ours, theirs, self.temperature).mean())
        divergence = soft_cross_divergence(ours, match_size(theirs, ours.shape[2:]), self.temperature)
        return dict(loss_kd=masked_mean(divergence.unsqueeze(1), self.valid_area.cells(batch, divergence.shape[1:])))
