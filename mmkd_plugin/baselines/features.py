"""``mmkd.FeatureDistiller``: plain L2 between features (FitNets, Romero et al., ICLR 2015), with a 1x1 adapter."""
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from torch import Tensor, nn

from ..distiller import Batch, Features, PairedDistiller
from ..losses import ValidArea, mask_padding_option, masked_mean
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import as_map, resize


@MODELS.register_module()
class FeatureDistiller(PairedDistiller):
    """The mean squared distance of adapted student features and teacher features.

    Losses: ``loss_<level>`` for each pair: the mean over (B, C_t, H, W). The adapter is a 1x1 convolution from C_s to C_t
    channels; a teacher feature of another resolution is resized to the student's.

    Raises:
        DistillationError: for options that do not fit.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(PairedDistiller.Options):
        """The options of plain feature distillation."""
        mask_padding: Optional[bool] = mask_padding_option()

    options: Options

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.valid_area = ValidArea(self.options.mask_padding)
        self.adapters = nn.ModuleList()

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        self.adapters.extend(nn.Conv2d(student[ours].channels, teacher[theirs].channels, 1) for ours, theirs in self.pairs)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        losses = {}
        for (ours, theirs), name, adapter in zip(self.pairs, self.loss_names, self.adapters):
            adapted = adapter(as_map(student[ours]).float())
            target = resize(as_map(teacher[theirs]).float(), adapted.shape[2:])
            valid = self.valid_area.cells(batch, adapted.shape[2:])
            losses[name] = masked_mean((adapted - target).square(), valid)
        return losses
