"""``mmkd.FeatureAggregationDistiller``: Differentiable Feature Aggregation (Guan et al., ECCV 2020)."""
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..core.distiller import Batch, Distiller, TapNames
from ..core.errors import DistillationError, check_flag, check_number, unknown_name
from ..core.isolation import evaluation_mode
from ..core.recording import FeatureSum
from ..core.rerouting import Rerouting
from ..core.shapes import as_map, map_like, widened
from ..core.taps import TapAddress, TapInfo
from ..core.teacher import Teacher
from ..registry import MODELS
from .aggregation import ABLATIONS, ablation_weights, seed_of_group
from .bridge import DISTANCES, ST_FORMS, directional_distance, feature_distance, group_weights
from .connectors import CONNECTOR_NORMS, ConnectedGroup
from .groups import LayerGroup, check_order, find_groups
from .result import matching_weights, read_aggregation
from .search import AggregationSearch, Gammas

MODES = ('search', 'distill')
SKIPS = ('student_detached', 'teacher', 'zeros')
SEARCH_DEFAULTS = dict(gamma_st=1.0, gamma_ts=1.0, st_form='sq', skip='student_detached', whole_weight=0.0)
DISTILL_DEFAULTS = dict(aggregation=None, distance='mean', transfer=False)


@MODELS.register_module()
class FeatureAggregationDistiller(Distiller):
    """Compares each stage of the student with a weighted sum of the blocks of the teacher's stage.

    The weights are found in a run with ``mode='search'`` and an :class:`AggregationSearchHook`, which writes them to a file,
    and used in a second run with ``mode='distill'``.

    Args:
        groups: the stages, shallow to deep, e.g. ``'backbone.layer3'`` for both models; (student, teacher) pairs; or
            ``dict(student=..., teacher=..., every=...)`` where the teacher is a stage or a list of taps.
        mode: ``'search'`` or ``'distill'``.
        every: every how many blocks of a teacher's stage are taken, counted from the last.
        resize: whether an aggregation of another resolution is resized to the student's.
        connector_norm: norm after the 1x1 convolutions: ``'BN'``, ``'SyncBN'`` or None.
        seed: of the first beta, and of the random ablation.
        aggregation: (distill) path of the file a search wrote, or ``'last'``, ``'average'``, ``'random'``.
        distance: (distill) ``'mean'``, ``'sum'`` or ``'normalized'``: see :func:`~.bridge.feature_distance`. The paper's
            gamma_fd is ``loss_weight``.
        transfer: (distill) whether the file may be of a teacher with other weights (never of another topology), or
            of a student with other layers.
        gamma_st: (search) weight of the student-teacher path, or ``'auto'``.
        gamma_ts: (search) weight of the teacher-student path: of the student's own losses from the injected feature on.
        st_form: (search) ``'sq'``, ``'norm'`` or ``'mse'``: see :func:`~.bridge.directional_distance`.
        skip: (search) what the student's later layers see of its stages before the injection: ``'student_detached'``,
            ``'teacher'`` (aggregations of the groups searched before, through their connectors) or ``'zeros'``.
        whole_weight: (search) weight of the student's own losses in an extra forward without injection.
        loss_weight, loss_scale and others: (distill) see :class:`~mmkd_plugin.core.Distiller`; None is the default, so that
            a search can take back what the config it builds on has set.

    Losses: ``loss_<stage>`` for each group; in a search ``loss_st`` of the group at hand, beside the student's own.

    Raises:
        DistillationError: for a wrong group, choice or number, or a key of the other mode.
    """

    def __init__(self, groups: Sequence[Any], mode: str, every: int = 1, resize: bool = False,
                 connector_norm: Optional[str] = 'BN', seed: int = 0, aggregation: Optional[str] = None,
                 distance: Optional[str] = None, transfer: Optional[bool] = None,
                 gamma_st: Union[float, str, None] = None, gamma_ts: Optional[float] = None, st_form: Optional[str] = None,
                 skip: Optional[str] = None, whole_weight: Optional[float] = None, **schedule):
        schedule = {key: value for key, value in schedule.items() if value is not None}  # None: a base's key, taken back
        super().__init__(**schedule)
        if mode not in MODES:
            raise unknown_name('mode', mode, MODES)
        given = dict(aggregation=aggregation, distance=distance, transfer=transfer, gamma_st=gamma_st, gamma_ts=gamma_ts,
                     st_form=st_form, skip=skip, whole_weight=whole_weight)
        self.options = _options(mode, given, schedule)
        if connector_norm is not None and connector_norm not in CONNECTOR_NORMS:
            raise unknown_name('connector_norm', connector_norm, CONNECTOR_NORMS, 'Or None.')
        check_flag('resize', resize)
        check_number('seed', seed, least=0, whole=True)
        self.mode, self.every, self.resize, self.connector_norm, self.seed = mode, every, resize, connector_norm, seed
        self.groups_cfg = groups
        self.reroutes = mode == 'search'
        self.groups = nn.ModuleList()
        self.search: Optional[AggregationSearch] = None
        self._found: List[LayerGroup] = []
        self._fixed: List[Optional[List[float]]] = []
        self._target: Optional[Tensor] = None

    def find_taps(self, student: nn.Module, teacher: Teacher, name: str) -> None:
        key = f'model.distillers.{name}'
        self.name = name
        try:
            self._found = find_groups(self.groups_cfg, self.every, student, teacher.model)
        except DistillationError as error:
            raise DistillationError(f'{key}.{error}' if str(error).startswith('groups') else f'{key}: {error}') from None
        self.student_taps = [group.student for group in self._found]
        ahead = [tap for tap in self.student_taps if TapAddress.parse(tap).port == 'in']
        if self.reroutes and ahead:
            raise DistillationError(f'{key}.groups: the student tap {ahead[0]!r}. Accepted in a search: an output, in whose '
                                    'place the student can go on with another.')
        self.teacher_taps = [address for group in self._found for address in group.teacher]
        self._fixed = self._fixed_weights(teacher, f'{key}.aggregation')

    def _fixed_weights(self, teacher: Teacher, key: str) -> List[Optional[List[float]]]:
        if self.mode == 'search':
            return [None] * len(self._found)
        aggregation = self.options['aggregation']
        if aggregation in ABLATIONS:
            return [ablation_weights(aggregation, len(group.teacher), seed_of_group(self.seed, number))
                    for number, group in enumerate(self._found)]
        return matching_weights(read_aggregation(aggregation, key), self._found, teacher.identity,
                                self.options['transfer'], key)

    def prepare(self, student: Dict[str, TapInfo], teacher: Dict[str, TapInfo], name: str) -> None:
        try:
            check_order(self._found, student, teacher)
            self.groups.extend(ConnectedGroup(
                group, name, student[group.student], [teacher[tap] for tap in group.teacher], self.connector_norm,
                self.resize, weights, seed_of_group(self.seed, number))
                for number, (group, weights) in enumerate(zip(self._found, self._fixed)))
        except DistillationError as error:
            raise DistillationError(f'model.distillers.{name}.{error}') from None

    def describe(self) -> str:
        how = f', distance {self.options["distance"]}' if self.mode == 'distill' else ''
        how += f', connector_norm {self.connector_norm}' + (', resize' if self.resize else '')
        return f'{self.mode}{how}; ' + '; '.join(group.describe() for group in self.groups)

    def start_search(self, optimizer: dict, regularisation: float) -> AggregationSearch:
        """Makes the state of a search. The hook calls it.

        Args:
            optimizer: config of the optimiser of beta.
            regularisation: lambda.

        Raises:
            DistillationError: if this does not search, or every group has one layer only.
        """
        if self.mode != 'search':
            raise DistillationError(f'model.distillers.{self.name} has mode={self.mode!r}; AggregationSearchHook needs '
                                    "'search'")
        if not any(group.searched for group in self.groups):
            names = ', '.join(group.name for group in self.groups)
            raise DistillationError(f'model.distillers.{self.name}.groups: every group ({names}) has one layer of the '
                                    'teacher; there is nothing to search. Accepted: a stage of several blocks, of which '
                                    f'every={self.every} leaves more than one.')
        gammas = Gammas(self.options['gamma_st'], self.options['gamma_ts'])
        self.search = AggregationSearch(list(self.groups), gammas, optimizer, regularisation)
        return self.search

    def result(self) -> List[Dict[str, Any]]:
        """``name``, ``student`` (tap), ``teacher`` (taps) and ``weights`` of every group, shallow to deep."""
        return [dict(name=group.name, student=group.student, teacher=list(group.teacher), weights=group.weights())
                for group in self.groups]

    def _present(self) -> ConnectedGroup:
        if self.search is None or self.search.index is None:
            raise DistillationError(f'model.distillers.{self.name} searches, but nothing says which group. Add '
                                    "dict(type='mmkd.AggregationSearchHook') to custom_hooks.")
        return self.search.group

    def taps_at(self, iteration: int) -> TapNames:
        if self.mode == 'distill':
            return TapNames(self.student_taps, [])
        group = self._present()
        return TapNames([group.student], group.teacher if group.is_live else [])

    def teacher_sums(self) -> List[FeatureSum]:
        if self.mode == 'distill':
            return [group.sums() for group in self.groups]
        group = self._present()
        return [*(earlier.sums() for earlier in self._standing_in()), *([] if group.is_live else [group.sums()])]

    def _standing_in(self) -> List[ConnectedGroup]:
        if self.options['skip'] != 'teacher':
            return []
        return [group for group in self.groups[:self.search.index] if group.searched]

    def reroute(self, teacher: Dict[str, Tensor], batch: Batch) -> Rerouting:
        """Injects the aggregation, through its connector, in place of the student's own feature (equation 10)."""
        group = self._present()
        aggregation = group.aggregation(teacher)

        def inject(feature: Tensor) -> Tensor:
            self._target = group.fitted(aggregation, as_map(feature, batch.image_size))
            return map_like(group.to_student(self._target), feature)

        def stand_in(earlier: ConnectedGroup):
            def make(feature: Tensor) -> Tensor:
                with torch.no_grad(), evaluation_mode(earlier.to_student):
                    target = earlier.fitted(earlier.aggregation(teacher), as_map(feature, batch.image_size))
                    return map_like(earlier.to_student(target), feature)
            return make

        # While beta is trained the search weighs the two paths itself.
        weight, whole = (1.0, 0.0) if group.is_live else (self.search.gammas.ts, self.options['whole_weight'])
        return Rerouting(group.name, group.student, inject, task_weight=weight, whole_weight=whole,
                         earlier=torch.zeros_like if self.options['skip'] == 'zeros' else Tensor.detach,
                         stand_ins={earlier.student: stand_in(earlier) for earlier in self._standing_in()})

    def forward(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor], batch: Batch) -> Dict[str, Tensor]:
        return self._search_losses(student) if self.mode == 'search' else self._feature_losses(student, teacher)

    def _search_losses(self, student: Dict[str, Tensor]) -> Dict[str, Tensor]:
        group = self._present()
        target, self._target = self._target, None
        weight = 1.0 if group.is_live else self.search.gammas.st
        if target is None or weight == 0:
            return {}
        adapted = group.to_teacher(widened(as_map(student[group.student])))
        return dict(loss_st=directional_distance(adapted, target, self.options['st_form']) * weight)

    def _feature_losses(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor]) -> Dict[str, Tensor]:
        losses, form = {}, self.options['distance']
        for group, weight in zip(self.groups, group_weights(form, len(self.groups))):
            feature = widened(as_map(student[group.student]))
            target = group.fitted(group.aggregation(teacher), feature)
            losses[f'loss_{group.name}'] = feature_distance(group.to_teacher(feature), target, form) * weight
        return losses


def _options(mode: str, given: Dict[str, Any], schedule: Dict[str, Any]) -> Dict[str, Any]:
    """The options of a mode with its defaults. Raises :class:`DistillationError` for a key of the other or a wrong value."""
    accepted, others = (SEARCH_DEFAULTS, DISTILL_DEFAULTS) if mode == 'search' else (DISTILL_DEFAULTS, SEARCH_DEFAULTS)
    wrong = [key for key in others if given[key] is not None] + (list(schedule) if mode == 'search' else [])
    if wrong:
        value = given[wrong[0]] if wrong[0] in given else schedule[wrong[0]]
        more = '' if mode == 'search' else ', and what every distiller takes (loss_weight, loss_scale, ...)'
        raise DistillationError(f'{wrong[0]}: {value!r} has no meaning with mode={mode!r}. Accepted there: '
                                f'{", ".join(accepted)}{more}. With None a key of a base config is taken back.')
    options = {key: default if given[key] is None else given[key] for key, default in accepted.items()}
    choices = dict(st_form=ST_FORMS, skip=SKIPS) if mode == 'search' else dict(distance=DISTANCES)
    for key, values in choices.items():
        if options[key] not in values:
            raise unknown_name(key, options[key], values)
    if mode == 'distill':
        if not isinstance(options['aggregation'], str):
            raise DistillationError(f'aggregation: {options["aggregation"]!r}. Accepted: the path of a file that a search '
                                    f'wrote, or {", ".join(ABLATIONS)}.')
        check_flag('transfer', options['transfer'])
        return options
    if isinstance(options['gamma_st'], str) and options['gamma_st'] != 'auto':
        raise unknown_name('gamma_st', options['gamma_st'], ['auto'], 'Or a number >= 0.')
    if options['gamma_st'] != 'auto':
        check_number('gamma_st', options['gamma_st'], least=0)
    check_number('gamma_ts', options['gamma_ts'], least=0)
    check_number('whole_weight', options['whole_weight'], least=0)
    if options['gamma_ts'] == 0 and options['gamma_st'] in ('auto', 0):
        raise DistillationError(f"gamma_ts: 0, with gamma_st={options['gamma_st']!r}. Accepted: one of them above 0; for "
                                "gamma_st='auto', which balances the two, gamma_ts.")
    return options
