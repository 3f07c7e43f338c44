"""``mmkd.FeatureDistiller``: any loss between features, by default plain L2 with a 1x1 adapter (FitNets, ICLR 2015)."""
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, Mapping, Optional

from torch import Tensor, nn

from ..distiller import Batch, Features, PairedDistiller, SeparatePairs
from ..losses import FeatureLoss, LossConfig, ValidArea, build_loss, mask_padding_option, masked_norm
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import as_map, map_size, resize, widened
from ..utils.errors import DistillationError, under
from ..utils.mmrazor import hint_for
from ..utils.options import Choice, Either, option

ADAPTERS = ('auto', 'conv1x1', 'conv1x1_bn')


@dataclass(frozen=True)
class AdapterName(Choice):
    """One of some adapters; mmrazor's connectors are named in the error."""

    def read(self, value: Any) -> Any:
        try:
            return super().read(value)
        except DistillationError as error:
            error.hint = hint_for(value)
            raise


@MODELS.register_module()
class FeatureDistiller(SeparatePairs):
    """A loss between adapted student features and teacher features; which one, says ``loss``.

    Losses: ``loss_<level>`` for each pair. The adapter is a 1x1 convolution from C_s to C_t channels; a teacher feature of
    another resolution is resized to the student's.

    Raises:
        DistillationError: for options that do not fit; when training starts, if the widths of a pair differ and neither an
            adapter nor the loss evens them out.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(PairedDistiller.Options):
        """The options of feature distillation."""
        mask_padding: Optional[bool] = mask_padding_option()
        loss: Any = option(LossConfig(FeatureLoss), 'l2', 'what is compared how: docs/losses.md')
        adapter: Optional[str] = option(
            Either(AdapterName(ADAPTERS), (None,)), 'auto', "what the student's feature passes first: 'conv1x1', a "
            "convolution; 'conv1x1_bn', one without bias and a batch norm; None, nothing; 'auto', 'conv1x1' where the loss "
            'asks for it')

    options: Options

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.valid_area = ValidArea(self.options.mask_padding)
        self.adapters, self.losses = nn.ModuleList(), nn.ModuleList()

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        for number, (ours, theirs) in enumerate(self.pairs):
            loss = build_loss(self.options.loss, FeatureLoss)
            with under(f'pairs[{number}]'):
                adapter = _adapter(self.options.adapter, loss, student[ours].channels, teacher[theirs].channels)
            if not isinstance(adapter, nn.Identity):
                loss.prepare(replace(student[ours], channels=teacher[theirs].channels), teacher[theirs])
            else:
                loss.prepare(student[ours], teacher[theirs])
            self.adapters.append(adapter)
            self.losses.append(loss)

    def loss_parameters(self, name: str) -> Iterable[nn.Parameter]:
        number = self.loss_names.index(name)
        return [*self.adapters[number].parameters(), *self.losses[number].parameters()]

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        self.valid_area.refuse_norms_over_ranks(batch, self.adapters, 'adapter', "'conv1x1'")
        losses = {}
        for (ours, theirs), name, adapter, loss in zip(self.pairs, self.loss_names, self.adapters, self.losses):
            if name in self.left_out:
                continue
            feature = widened(as_map(student[ours]))
            valid = self.valid_area.cells(batch, map_size(feature))
            target = resize(widened(as_map(teacher[theirs])), map_size(feature))
            losses[name] = loss(_adapted(adapter, feature, valid), target, valid, batch)
        return losses


def _adapter(name: Optional[str], loss: FeatureLoss, ours: int, theirs: int) -> nn.Module:
    if name == 'auto':
        name = 'conv1x1' if loss.widths == 'adapted' or (loss.widths == 'equal' and ours != theirs) else None
    if name == 'conv1x1_bn':
        return nn.Sequential(nn.Conv2d(ours, theirs, 1, bias=False), nn.BatchNorm2d(theirs))
    if name == 'conv1x1':
        return nn.Conv2d(ours, theirs, 1)
    if ours != theirs and loss.widths != 'any':
        raise DistillationError(f'has {ours} channels in the student and {theirs} in the teacher, which '
                                f'{type(loss).__name__} cannot compare without an adapter', hint="Write adapter='conv1x1'.")
    return nn.Identity()


def _adapted(adapter: nn.Module, feature: Tensor, valid: Optional[Tensor]) -> Tensor:
    if isinstance(adapter, nn.Sequential):
        convolution, norm = adapter
        return masked_norm(norm, convolution(feature), valid)
    adapted: Tensor = adapter(feature)
    return adapted
