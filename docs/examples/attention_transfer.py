"""Attention transfer (Zagoruyko, Komodakis, ICLR 2017): a loss of one's own, and a distiller that has it."""
from dataclasses import dataclass

import torch.nn.functional as F

from mmkd_plugin.distiller import PairedDistiller
from mmkd_plugin.losses import FeatureLoss, ValidArea, mask_padding_option
from mmkd_plugin.registry import MODELS
from mmkd_plugin.taps.shapes import as_map, resize, widened
from mmkd_plugin.utils.options import Number, option


@MODELS.register_module()
class AttentionLoss(FeatureLoss):
    """Mean squared difference of where two features (B, C, H, W) are strong; ``valid`` (B, 1, H, W): what cells count."""
    short = 'attention'

    def forward(self, student, teacher, valid=None, batch=None, power=2.0):
        strengths = [feature.abs().pow(power).mean(1, keepdim=True) for feature in (student, teacher.detach())]
        ours, theirs = (F.normalize((map if valid is None else map * valid).flatten(1)) for map in strengths)
        return (ours - theirs).square().mean()


@MODELS.register_module()
class AttentionTransferDistiller(PairedDistiller):
    """The student looks where the teacher looks. Losses: ``loss_<level>`` for each pair."""

    @dataclass(frozen=True, kw_only=True)
    class Options(PairedDistiller.Options):
        power: float = option(Number(above=0), 2.0, 'p of the magnitudes |x|^p that are averaged over the channels')
        mask_padding: bool = mask_padding_option()

    def __init__(self, **options):
        super().__init__(**options)
        self.valid_area, self.loss = ValidArea(self.options.mask_padding), AttentionLoss()

    def forward(self, student, teacher, batch):
        losses = {}
        for name, (ours, theirs) in zip(self.loss_names, self.pairs):
            source = widened(as_map(student[ours]))
            target = resize(widened(as_map(teacher[theirs])), source.shape[2:])
            valid = self.valid_area.cells(batch, source.shape[2:])
            losses[name] = self.loss(source, target, valid, batch, self.options.power)
        return losses
