"""``mmkd.FeatureAggregationDistiller``: Differentiable Feature Aggregation (Guan et al., ECCV 2020)."""
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, Iterable, List, Mapping, Optional, Sequence, Union, cast

import torch
from torch import Tensor, nn

from ..distiller import (
    Batch,
    Distiller,
    Features,
    Identity,
    Pairs,
    ParsedPair,
    SeparateLosses,
    SumsTeacherFeatures,
    Surroundings,
    TapNames,
    WrapsForward,
)
from ..losses import FeatureLoss, LossConfig, ValidArea, build_loss, mask_padding_option
from ..losses.margins import margin_relu
from ..registry import MODELS
from ..taps import FeatureSum, TapAddress, TapInfo
from ..taps.shapes import as_map, map_like, map_size, widened
from ..utils.errors import DistillationError, under
from ..utils.isolation import evaluation_mode
from ..utils.options import SEED, Choice, Either, Flag, Number, Text, option
from .aggregation import ABLATIONS, ablation_weights, seed_of_group
from .artefact import FORMAT, check_normalisation, matching_weights, read_aggregation
from .bridge import DISTANCE_FORMS, ST_FORMS, directional_distance, feature_distance, group_weights
from .connectors import CONNECTOR_NORMS, ConnectedGroup
from .groups import LayerGroup, check_order, find_groups
from .injection import Injection, Unreached

if TYPE_CHECKING:
    from .search import AggregationSearch

MODES = ('search', 'distill')
TEACHER_TRANSFORMS = ('margin_relu',)
SKIPS = ('student_detached', 'teacher', 'zeros')
IN_SEARCH, IN_DISTILLATION = dict(mode=('search',)), dict(mode=('distill',))
ARTEFACT = 'search/aggregation.json'


@MODELS.register_module()
class FeatureAggregationDistiller(Distiller, SeparateLosses, SumsTeacherFeatures, WrapsForward):
    """Compares each stage of the student with a weighted sum of the blocks of the teacher's stage.

    The weights are found in a run with ``mode='search'`` and an :class:`AggregationSearchHook`, which writes them to a file,
    and used in a second run with ``mode='distill'``.

    Losses: ``loss_<stage>`` for each group; in a search ``loss_st`` of the group at hand, beside the student's own.

    Raises:
        DistillationError: for options that do not fit, or that only the other mode has.

    Attributes:
        search: the state of the search in ``mode='search'``; set by its hook.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Distiller.Options):
        """The options of DFA."""
        renamed = dict(groups='Write pairs=[...], with the same items.')
        also_only = {field.name: IN_DISTILLATION for field in fields(Distiller.Options)}
        pairs: List[ParsedPair] = option(
            Pairs(several=True, more=(('every', Number(above=0, whole=True)),)),
            doc="the stages, shallow to deep, e.g. `'backbone.layer3'` for both models; the teacher's side is a stage or a "
            'list of taps')
        mode: str = option(Choice(MODES), 'distill', "'search' or 'distill'; a search takes none of the options that every "
                           'distiller has (of its strength)')
        every_block: int = option(
            Number(above=0, whole=True), 1, "every how many blocks of a teacher's stage are taken, counted from the last, "
            'where a pair does not say it (as its `every`)')
        resize: bool = option(Flag(), False, "whether an aggregation of another resolution is resized to the student's")
        connector_norm: Optional[str] = option(
            Either(Choice(CONNECTOR_NORMS), (None,)), 'BN', 'norm after the 1x1 convolutions')
        normalise_layers: bool = option(
            Flag(), False, "whether each of the teacher's layers is divided by its root mean square in the batch before it "
            'is summed up, in the search and with what it has found; keeps the maps of the layers')
        seed: int = option(SEED, 0, 'of the first beta, and of the random ablation')
        mask_padding: Optional[bool] = mask_padding_option()
        aggregation: Optional[str] = option(
            Either(Text(f'the path of a file that a search wrote, or {", ".join(ABLATIONS)}'), (None,)), None,
            "path of the file a search wrote, or 'last', 'average', 'random'; None: `search/aggregation.json` in the work "
            'dir of the run, where `mmkd search` writes it', IN_DISTILLATION)
        distance: Any = option(
            LossConfig(FeatureLoss, DISTANCE_FORMS), 'mean', "of the feature and the aggregation: 'mean', the mean square; "
            "'sum', over C, H, W, halved from each group to the one before it; 'normalized', 2 - 2 cos; or any loss between "
            "features (docs/losses.md). The paper's gamma_fd is `loss_weight`", IN_DISTILLATION)
        teacher_transform: Optional[str] = option(
            Either(Choice(TEACHER_TRANSFORMS), (None,)), None, "what the aggregation passes first: 'margin_relu', the "
            'maximum with the mean of the negative values of its channel in the batch; None, nothing', IN_DISTILLATION)
        transfer: bool = option(Flag(), False, 'whether the file may be of a teacher with other weights (never of another '
                                'topology), or of a student with other layers', IN_DISTILLATION)
        gamma_st: Union[float, str] = option(
            Either(Number(least=0), ('auto',)), 1.0, "weight of the student-teacher path; 'auto' balances the two",
            IN_SEARCH)
        gamma_ts: float = option(
            Number(least=0), 1.0, "weight of the teacher-student path: of the student's own losses from the injected "
            'feature on', IN_SEARCH)
        st_form: str = option(Choice(ST_FORMS), 'sq', 'form of the student-teacher distance', IN_SEARCH)
        skip: str = option(
            Choice(SKIPS), 'student_detached', "what the student's later layers see of its stages before the injection: "
            "'student_detached', 'teacher' (aggregations of the groups searched before, through their connectors) or "
            "'zeros'", IN_SEARCH)
        whole_weight: float = option(
            Number(least=0), 0.0, "weight of the student's own losses in an extra forward without injection", IN_SEARCH)

        def check(self, given: Sequence[str]) -> None:
            super().check(given)
            if self.mode == 'search' and self.gamma_ts == 0 and self.gamma_st in ('auto', 0):
                raise DistillationError(f'does not go with gamma_st={self.gamma_st!r}', path='gamma_ts', given=0,
                                        accepted="one of them above 0; for gamma_st='auto', which balances the two, "
                                        'gamma_ts')

    options: Options
    search_hook: ClassVar[str] = 'mmkd.AggregationSearchHook'
    search_result: ClassVar[str] = 'aggregation'

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.groups, self.losses = nn.ModuleList(), nn.ModuleList()
        self.valid_area = ValidArea(self.options.mask_padding)
        self.search: Optional[AggregationSearch] = None
        self._found: List[LayerGroup] = []
        self._fixed: List[Optional[List[float]]] = []
        self._target: Optional[Tensor] = None
        self._unreached: Unreached = {}

    def connected_groups(self) -> List[ConnectedGroup]:
        """The groups with their connectors, shallow to deep."""
        return cast(List[ConnectedGroup], list(self.groups))

    @property
    def wraps(self) -> bool:
        return self.options.mode == 'search'

    def find_taps(self, surroundings: Surroundings) -> None:
        with under('pairs'):
            teacher = surroundings.teacher_of([tap for pair in self.options.pairs for tap in pair.teacher_taps])
            self._found = find_groups(self.options.pairs, self.options.every_block, surroundings.student, teacher.model)
            self.student_taps = [group.student for group in self._found]
            ahead = [tap for tap in self.student_taps if TapAddress.parse(tap).port == 'in']
            if self.wraps and ahead:
                raise DistillationError("is an input of the student", given=ahead[0], accepted='in a search an output, in '
                                        'whose place the student can go on with another feature')
        self.teacher_taps = [address for group in self._found for address in group.teacher]
        with under('aggregation'):
            self._fixed = self._fixed_weights(surroundings, teacher.identity)

    def _fixed_weights(self, surroundings: Surroundings, teacher: Identity) -> List[Optional[List[float]]]:
        if self.wraps:
            return [None] * len(self._found)
        aggregation: Any = self.options.aggregation
        if aggregation in ABLATIONS:
            return [ablation_weights(aggregation, len(group.teacher), seed_of_group(self.options.seed, number))
                    for number, group in enumerate(self._found)]
        aggregation = surroundings.artefact(aggregation, ARTEFACT, FORMAT.instead)
        content = read_aggregation(aggregation)
        check_normalisation(content, self.options.normalise_layers, aggregation)
        return [*matching_weights(content, self._found, teacher, self.options.transfer, aggregation)]

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        with under('pairs'):
            check_order(self._found, student, teacher)
            self.groups.extend(ConnectedGroup(
                group, self.name, student[group.student], [teacher[tap] for tap in group.teacher],
                self.options.connector_norm, self.options.resize, self.options.normalise_layers, weights,
                seed_of_group(self.options.seed, number))
                for number, (group, weights) in enumerate(zip(self._found, self._fixed)))
        if self.wraps or self.options.distance in DISTANCE_FORMS:
            return
        for group in self.connected_groups():
            loss, last = build_loss(self.options.distance, FeatureLoss), teacher[group.teacher[-1]]
            with under('distance'):
                # What comes directly before one layer says nothing of a sum.
                loss.prepare(replace(student[group.student], channels=group.channels),
                             last if len(group) == 1 else replace(last, norm=None))
            self.losses.append(loss)

    def describe(self) -> str:
        how = '' if self.wraps else f', distance {self.options.distance}'
        how += f', connector_norm {self.options.connector_norm}' + (', resize' if self.options.resize else '')
        how += f', teacher_transform {self.options.teacher_transform}' if self.options.teacher_transform else ''
        how += ', normalise_layers' if self.options.normalise_layers else ''
        return f'{self.options.mode}{how}; ' + '; '.join(group.describe() for group in self.connected_groups())

    def _present(self) -> ConnectedGroup:
        if self.search is None or self.search.index is None:
            raise DistillationError('searches, but nothing says which group',
                                    hint="Add dict(type='mmkd.AggregationSearchHook') to custom_hooks.")
        return self.search.group

    def taps_at(self, iteration: int) -> TapNames:
        groups = [self._present()] if self.wraps else self._kept()
        needing = [group for group in (*groups, *self._standing_in()) if group.needs_layers]
        return TapNames([group.student for group in groups], [address for group in needing for address in group.teacher])

    def teacher_sums(self) -> List[FeatureSum]:
        groups = [*self._standing_in(), self._present()] if self.wraps else self._kept()
        return [group.sums() for group in groups if not group.needs_layers]

    def loss_taps(self) -> Dict[str, TapNames]:
        return {_loss_name(group): TapNames([group.student], list(group.teacher)) for group in self._found}

    def loss_parameters(self, name: str) -> Iterable[nn.Parameter]:
        number = list(self.loss_taps()).index(name)
        learnt = [*self.losses[number].parameters()] if self.losses else []
        return [*self.connected_groups()[number].parameters(), *learnt]

    def _kept(self) -> List[ConnectedGroup]:
        return [group for group in self.connected_groups() if _loss_name(group) not in self.left_out]

    def _standing_in(self) -> List[ConnectedGroup]:
        if self.options.skip != 'teacher' or self.search is None:
            return []
        return [group for group in self.connected_groups()[:self.search.index] if group.searched]

    def wrap(self, teacher: Features, batch: Batch) -> Injection:
        """Injects the aggregation, through its connector, in place of the student's own feature (equation 10)."""
        group = self._present()
        assert self.search is not None
        cells = partial(self._cells, batch)
        aggregation = group.aggregation(teacher, cells)

        def inject(feature: Tensor) -> Tensor:
            with under(self.path):
                self._target = group.fitted(aggregation, as_map(feature, batch.image_size))
                valid = self._cells(batch, self._target)
            return map_like(group.to_student(self._target, valid), feature)

        def stand_in(earlier: ConnectedGroup) -> Callable[[Tensor], Tensor]:
            def make(feature: Tensor) -> Tensor:
                with torch.no_grad(), evaluation_mode(earlier.to_student):
                    target = earlier.fitted(earlier.aggregation(teacher, cells), as_map(feature, batch.image_size))
                    return map_like(earlier.to_student(target), feature)
            return make

        # While beta is trained the search weighs the two paths itself.
        weight, whole = (1.0, 0.0) if group.is_live else (self.search.gammas.ts, self.options.whole_weight)
        return Injection(group.name, group.student, inject, self._unreached, task_weight=weight, whole_weight=whole,
                         earlier=torch.zeros_like if self.options.skip == 'zeros' else Tensor.detach,
                         stand_ins={earlier.student: stand_in(earlier) for earlier in self._standing_in()})

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        return self._search_losses(student, batch) if self.wraps else self._feature_losses(student, teacher, batch)

    def _search_losses(self, student: Features, batch: Batch) -> Dict[str, Tensor]:
        group = self._present()
        assert self.search is not None
        target, self._target = self._target, None
        weight = 1.0 if group.is_live else self.search.gammas.st
        if target is None or weight == 0:
            return {}
        valid = self._cells(batch, target)
        adapted = group.to_teacher(widened(as_map(student[group.student])), valid)
        return dict(loss_st=directional_distance(adapted, target, self.options.st_form, valid) * weight)

    def _feature_losses(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        losses, form = {}, self.options.distance
        for number, group in enumerate(self.connected_groups()):
            if _loss_name(group) in self.left_out:
                continue
            feature = widened(as_map(student[group.student]))
            target = group.fitted(group.aggregation(teacher, partial(self._cells, batch)), feature)
            valid = self._cells(batch, feature)
            if self.options.teacher_transform:
                target = margin_relu(target, valid)
            adapted = group.to_teacher(feature, valid)
            losses[_loss_name(group)] = self.losses[number](adapted, target, valid, batch) if self.losses else (
                feature_distance(adapted, target, form, valid) * group_weights(form, len(self.groups))[number])
        return losses

    def _cells(self, batch: Batch, feature: Tensor) -> Optional[Tensor]:
        """The cells of a feature (B, C, H, W) that count: (B, 1, H, W) bool, or None for all."""
        self.valid_area.refuse_norms_over_ranks(batch, self.groups, 'connector_norm', "'BN', None")
        return self.valid_area.cells(batch, map_size(feature))


def _loss_name(group: Union[LayerGroup, ConnectedGroup]) -> str:
    return f'loss_{group.name}'
