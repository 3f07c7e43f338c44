"""``mmkd.FeatureDistiller``: plain L2 between features (FitNets, Romero et al., ICLR 2015), with a 1x1 adapter."""
from typing import Dict, Optional, Sequence

from torch import Tensor, nn

from ..core.distiller import Batch, Distiller, Pair, describe_pairs, pair_names, parse_pairs
from ..core.shapes import as_map, match_size
from ..core.taps import TapInfo
from ..core.validity import ValidArea, masked_mean
from ..registry import MODELS


@MODELS.register_module()
class FeatureDistiller(Distiller):
    """The mean squared distance of adapted student features and teacher features.

    Args:
        pairs: (student tap, teacher tap) of each level.
        mask_padding: whether padding and ignored regions are left out; by default True for detection. See
            :class:`~mmkd_plugin.core.validity.ValidArea`.
        loss_weight, loss_scale and others: see :class:`~mmkd_plugin.core.Distiller`.

    Losses: ``loss_<level>`` for each pair: the mean over (B, C_t, H, W). The adapter is a 1x1 convolution from C_s to C_t
    channels; a teacher feature of another resolution is resized to the student's.
    """

    def __init__(self, pairs: Sequence[Pair], mask_padding: Optional[bool] = None, **schedule):
        super().__init__(**schedule)
        self.valid_area = ValidArea(mask_padding)
        self.pairs = parse_pairs(pairs, 'pairs')
        self.student_taps = [student for student, _ in self.pairs]
        self.teacher_taps = [teacher for _, teacher in self.pairs]
        self.adapters = nn.ModuleList()

    def prepare(self, student: Dict[str, TapInfo], teacher: Dict[str, TapInfo], name: str) -> None:
        self.adapters.extend(nn.Conv2d(student[ours].channels, teacher[theirs].channels, 1) for ours, theirs in self.pairs)

    def describe(self) -> str:
        return describe_pairs(self.pairs)

    def forward(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor], batch: Batch) -> Dict[str, Tensor]:
        losses = {}
        for (ours, theirs), name, adapter in zip(self.pairs, pair_names(self.pairs), self.adapters):
            adapted = adapter(as_map(student[ours]).float())
            target = match_size(as_map(teacher[theirs]).float(), adapted.shape[2:])
            valid = self.valid_area.cells(batch, adapted.shape[2:])
            losses[f'loss_{name}'] = masked_mean((adapted - target).square(), valid)
        return losses
