"""``mmkd.ReviewKDDistiller``: knowledge review (Chen, Liu, Zhao, Jia, CVPR 2021)."""
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from torch import Tensor, nn

from ..distiller import Batch, Features, PairedDistiller
from ..losses import ValidArea, hcl, mask_padding_option
from ..losses.review import AttentionFusion, review
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import as_map, map_size, widened
from ..utils.kinds import POOLED
from ..utils.options import Either, Number, option

MOST_HIDDEN = 512


@MODELS.register_module()
class ReviewKDDistiller(PairedDistiller):
    """The student's features are fused from deep to shallow, each fusion is compared with the teacher's feature there.

    Losses: ``loss_<level>`` for each pair: :func:`~mmkd_plugin.losses.hcl` between the output of an
    :class:`~mmkd_plugin.losses.review.AttentionFusion`, at the teacher's resolution, and the teacher's feature. The fusions
    are trained with the student. The authors let the weight grow over the first epochs: ``warmup``.

    Raises:
        DistillationError: for options that do not fit.

    In a config::

        review=dict(type='mmkd.ReviewKDDistiller', pairs=['backbone.layer2', 'backbone.layer3', 'backbone.layer4'])
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(PairedDistiller.Options):
        """The options of knowledge review; the pairs stand from shallow to deep."""
        hidden: Optional[int] = option(
            Either(Number(least=1, most=16384, whole=True), (None,)), None,
            "channels of what is handed on from level to level; None: those of the student's deepest feature, 512 at most")
        levels: List[int] = option(POOLED, [4, 2, 1],
                                   'the side of each pooled map of the loss, in cells')
        mask_padding: Optional[bool] = mask_padding_option()

    options: Options

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.valid_area = ValidArea(self.options.mask_padding)
        self.fusions = nn.ModuleList()

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        hidden = self.options.hidden or min(MOST_HIDDEN, student[self.pairs[-1].student].channels)
        deepest = len(self.pairs) - 1
        self.fusions.extend(AttentionFusion(student[ours].channels, hidden, teacher[theirs].channels, level == deepest)
                            for level, (ours, theirs) in enumerate(self.pairs))

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        self.valid_area.refuse_norms_over_ranks(batch, self.fusions, 'type', 'another distiller')
        targets = [widened(as_map(teacher[theirs])) for _, theirs in self.pairs]
        sizes = [map_size(target) for target in targets]
        fused = review(list(self.fusions), [widened(as_map(student[ours])) for ours, _ in self.pairs], sizes,
                       lambda size: self.valid_area.cells(batch, size))
        return {name: hcl(output, target, self.valid_area.cells(batch, size), self.options.levels)
                for name, output, target, size in zip(self.loss_names, fused, targets, sizes)}
