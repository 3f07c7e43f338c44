"""``mmkd.LogitsDistiller``: knowledge distillation on class scores (Hinton, Vinyals, Dean, 2015)."""
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from torch import Tensor

from ..distiller import Batch, Features, PairedDistiller, Pairs, ParsedPair
from ..losses import ValidArea, kl_divergence, masked_mean
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import resize
from ..utils.errors import DistillationError
from ..utils.options import Number, option


@MODELS.register_module()
class LogitsDistiller(PairedDistiller):
    """The student's class scores follow the teacher's, softened by a temperature.

    Losses: ``loss_kd``, the mean over images, or over the pixels that are no padding and have a label.

    Raises:
        DistillationError: for options that do not fit; when training starts, if the numbers of classes differ, or one side
            scores images and the other pixels.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(PairedDistiller.Options):
        """The options of logits distillation."""
        renamed = dict(student="Write pairs=['<tap>'], or pairs=[('<student tap>', '<teacher tap>')].",
                       teacher="Write pairs=[('<student tap>', '<teacher tap>')].")
        pairs: List[ParsedPair] = option(
            Pairs(length=1), doc='taps of the logits, one pair: `head.fc` (mmpretrain), `decode_head.conv_seg` (mmseg)')
        temperature: float = option(Number(above=0), 1.0, "T of the softmax; its square keeps the gradient's scale")
        ignore_index: int = option(Number(least=0, whole=True), 255,
                                   'label of pixels that do not count, for dense logits; the value the data samples use')

    options: Options

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.pair = self.pairs[0]
        self.valid_area = ValidArea(True, self.options.ignore_index, optional=False)

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        ours, theirs = student[self.pair.student], teacher[self.pair.teacher]
        if (ours.size is None) != (theirs.size is None):
            kinds = ['scores images' if info.size is None else 'scores pixels' for info in (ours, theirs)]
            raise DistillationError(
                f'student and teacher solve different tasks: the student ({self.pair.student}) {kinds[0]}, the teacher '
                f'({self.pair.teacher}) {kinds[1]}', hint='Features can still be distilled, logits cannot.')
        check_same_classes(ours, theirs)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        ours, theirs = student[self.pair.student].float(), teacher[self.pair.teacher].float()
        temperature = self.options.temperature
        if ours.dim() == 2:
            return dict(loss_kd=kl_divergence(ours, theirs, temperature).mean())
        divergence = kl_divergence(ours, resize(theirs, ours.shape[2:]), temperature)
        valid = self.valid_area.cells(batch, (divergence.shape[1], divergence.shape[2]))
        return dict(loss_kd=masked_mean(divergence.unsqueeze(1), valid))


def check_same_classes(student: TapInfo, teacher: TapInfo) -> None:
    """Raises :class:`DistillationError` unless both taps have scores of as many classes."""
    if student.channels != teacher.channels:
        raise DistillationError(
            f'the student has {student.channels} classes ({student.address}), the teacher {teacher.channels} '
            f'({teacher.address}); logits need the same classes',
            hint='Set num_classes in model.teacher.overrides, or give a teacher of the same data set.')
