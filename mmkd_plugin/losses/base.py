"""What a registered loss is: its options, what it makes once it knows the widths, and a value for a pair of tensors."""
from dataclasses import dataclass
from typing import Any, ClassVar, Optional

from torch import Tensor, nn

from ..taps import TapInfo
from ..utils import options
from ..utils.mmrazor import OF_LOSSES
from ..utils.options import Flag, option
from .batch import Batch


class Loss(nn.Module):
    """A loss between something of the student and the same of the teacher, chosen in a config by name or dict.

    Args:
        options: by name; see ``Options`` of the class.

    Attributes:
        short: the name it goes by beside that of its class; '' for none.
        options: as read.

    Raises:
        DistillationError: for options that do not fit.
    """
    short: ClassVar[str] = ''

    @dataclass(frozen=True, kw_only=True)
    class Options(options.Options):
        """The options every loss has: none."""
        elsewhere = OF_LOSSES

    options: Options

    def __init__(self, **options: Any):
        super().__init__()
        self.options = self.Options.read(options)


class FeatureLoss(Loss):
    """A loss between two maps. A sub-class has :meth:`forward`, and :meth:`prepare` if it has something to learn.

    Attributes:
        widths: what it asks of the numbers of channels: ``'adapted'``: the student's feature always passes an adapter before
            it; ``'equal'``: only where the widths differ; ``'any'``: never, they may differ.
    """
    widths: ClassVar[str] = 'adapted'

    def prepare(self, student: TapInfo, teacher: TapInfo) -> None:
        """Makes what depends on widths. Called once, before the optimiser is built.

        Args:
            student, teacher: what is known of the two taps; the student's channels are those after the adapter, if there is
                one.
        """

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        """The loss, a scalar whose gradient reaches the student only.

        Args:
            student, teacher: (B, C_s, H, W) and (B, C_t, H, W), float32; vectors come with H = W = 1.
            valid: (B, 1, H, W) bool, the cells that count; all where None.
            batch: images and ground truth, for losses that look at boxes or labels.
        """
        raise NotImplementedError


class LogitsLoss(Loss):
    """A loss between class scores. A sub-class has :meth:`compare`.

    Attributes:
        needs_labels: whether it has to know the labelled class.
    """
    needs_labels: ClassVar[bool] = False

    @dataclass(frozen=True, kw_only=True)
    class Options(Loss.Options):
        """The options every loss between class scores has."""
        standardise: bool = option(Flag(), False, 'whether both sides are standardised over the classes first (Sun et al., '
                                   'Logit Standardization, CVPR 2024)')

    options: Options

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                labels: Optional[Tensor] = None) -> Tensor:
        """The loss, a scalar whose gradient reaches the student only.

        Args:
            student, teacher: (B, K) or (B, K, H, W), float32.
            valid: (B, 1, H, W) bool, the pixels that count; all where None.
            labels: (B,) or (B, H, W) int64, from 0 to K - 1, also where a pixel does not count.
        """
        if self.options.standardise:
            student, teacher = standardise(student), standardise(teacher)
        return self.compare(student, teacher, valid, labels)

    def compare(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor], labels: Optional[Tensor]) -> Tensor:
        """The loss of scores that have been standardised if they should be; arguments as those of :meth:`forward`."""
        raise NotImplementedError


STANDARD_DEVIATION_FLOOR = 1e-7


def standardise(logits: Tensor) -> Tensor:
    """``(z - mean(z)) / (std(z) + 1e-7)`` over the classes (Sun et al., Logit Standardization, CVPR 2024).

    The standard deviation is the unbiased one, as in the authors' code. Where all scores are equal, the result is 0 and has
    no gradient: that of the formula is 10 million times what comes from above, and says nothing.

    Args:
        logits: (B, K) or (B, K, H, W), K > 1.
    """
    equal = (logits - logits[:, :1] == 0).all(1, keepdim=True)  # not of infinities, whose difference is NaN
    scores = (logits - logits.mean(1, keepdim=True)) / (STANDARD_DEVIATION_FLOOR + logits.std(1, keepdim=True))
    return scores.masked_fill(equal, 0)
