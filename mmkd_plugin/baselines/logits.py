"""``mmkd.LogitsDistiller``: any loss between class scores, by default knowledge distillation (Hinton et al., 2015)."""
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from torch import Tensor

from ..distiller import Batch, Features, PairedDistiller, Pairs, ParsedPair
from ..losses import LogitsLoss, LossConfig, ValidArea, build_loss, image_labels, labels_at
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import map_size, resize, widened
from ..utils.errors import DistillationError
from ..utils.kinds import TEMPERATURE
from ..utils.options import Either, Number, option


@MODELS.register_module()
class LogitsDistiller(PairedDistiller):
    """The student's class scores follow the teacher's; how, says ``loss``: by default softened by a temperature.

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
        loss: Any = option(LossConfig(LogitsLoss), 'kl', 'what is compared how: docs/losses.md')
        temperature: Optional[float] = option(Either(TEMPERATURE, (None,)), None,
                                              "T of the softmax; None: that of the loss, 1 for 'kl'")
        ignore_index: int = option(Number(least=0, whole=True), 255,
                                   'label of pixels that do not count, for dense logits; the value the data samples use')

    options: Options

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.pair = self.pairs[0]
        self.loss = self._build_loss()
        self.valid_area = ValidArea(True, self.options.ignore_index, optional=False)

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        ours, theirs = student[self.pair.student], teacher[self.pair.teacher]
        if (ours.size is None) != (theirs.size is None):
            kinds = ['scores images' if info.size is None else 'scores pixels' for info in (ours, theirs)]
            raise DistillationError(
                f'student and teacher solve different tasks: the student ({self.pair.student}) {kinds[0]}, the teacher '
                f'({self.pair.teacher}) {kinds[1]}', hint='Features can still be distilled, logits cannot.')
        check_same_classes(ours, theirs)
        if ours.channels < 2 and (self.loss.needs_labels or self.loss.options.standardise):
            raise DistillationError(f'compares several classes, the student ({ours.address}) has one score', path='loss',
                                    given=self.options.loss, accepted="a loss without labels, not standardised: 'kl'")

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        ours, theirs = widened(student[self.pair.student]), widened(teacher[self.pair.teacher])
        if ours.dim() == 2:
            return dict(loss_kd=self.loss(ours, theirs, None, image_labels(batch) if self.loss.needs_labels else None))
        valid = self.valid_area.cells(batch, map_size(ours))
        labels = None
        if self.loss.needs_labels:
            labels, valid = _known_labels(batch, ours, valid)
        return dict(loss_kd=self.loss(ours, resize(theirs, map_size(ours)), valid, labels))

    def _build_loss(self) -> LogitsLoss:
        temperature = self.options.temperature
        if temperature is None:
            return build_loss(self.options.loss, LogitsLoss)
        loss = build_loss(self.options.loss, LogitsLoss, temperature=temperature)
        if getattr(loss.options, 'temperature', None) != temperature:
            raise DistillationError('is not the temperature of the loss, which has its own', path='temperature',
                                    given=temperature, accepted='one place where it is said')
        return loss


def _known_labels(batch: Batch, logits: Tensor, valid: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
    """(B, H, W) labels that are classes, and which pixels count: those that did, and have such a label."""
    labels = labels_at(batch, map_size(logits))
    known = (labels >= 0) & (labels < logits.shape[1])
    counts = known.unsqueeze(1)
    return labels.where(known, labels.new_zeros(())), counts if valid is None else counts & valid


def check_same_classes(student: TapInfo, teacher: TapInfo) -> None:
    """Raises :class:`DistillationError` unless both taps have scores of as many classes."""
    if student.channels != teacher.channels:
        raise DistillationError(
            f'the student has {student.channels} classes ({student.address}), the teacher {teacher.channels} '
            f'({teacher.address}); logits need the same classes',
            hint='Set num_classes in model.teacher.overrides, or give a teacher of the same data set.')
