"""``mmkd.DistProDistiller``: pathways with an importance that changes over training (DistPro, ECCV 2022)."""
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, Iterable, List, Mapping, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..distiller import Batch, Distiller, Features, IdleInPart, Pairs, ParsedPair, Surroundings, TapNames
from ..distiller.pairs import check_pair_order
from ..losses import FeatureLoss, LossConfig, ValidArea, build_loss, mask_padding_option
from ..registry import MODELS
from ..taps import TapInfo, laid_out
from ..taps.shapes import as_map, map_size, widened
from ..utils.errors import DistillationError, under
from ..utils.options import Choice, Either, Flag, ListOf, Number, Text, option
from .artefact import FORMAT, check_members, read_process
from .importance import Importance
from .kinds import Connections, MemberNames, PathwayMap
from .member_gradients import MemberGradients
from .members import OtherLoss, check_different, rename
from .pathways import make_pathways
from .scales import MemberScales
from .transforms import Transforms, apply_transform, build_transform, valid_cells
from .weighed import WeighsMembers
from .weights import NORMALISATIONS

MODES = ('process', 'final', 'equal', 'constant', 'search')
AUTO, CALIBRATED = 'auto', 'calibrated'
DEFAULTS = dict(normalisation='biased_softmax', bias=1.0, tau=0.5)
ARTEFACT = 'search/process.json'
LEAST_SUM = 1e-6
"""Weights that are less together are none: a loss of their size is lost beside any other."""
REPLAYED = dict(mode=('process', 'final'))
WEIGHED = dict(mode=('process', 'final', 'constant', 'search'))
"""The modes in which importance becomes weights."""
NOT_SEARCHED = dict(mode=('process', 'final', 'equal', 'constant'))
"""The modes that may leave iterations and images out: a search step looks at the whole training step before it."""
OF_LEVELS = ('connections', 'transforms', 'distance', 'mask_padding')
"""Options that concern pathways alone."""


@MODELS.register_module()
class DistProDistiller(WeighsMembers, IdleInPart):
    """Compares transformed student features with teacher features along many pathways, each with its own weight.

    ``loss = sum_p w_p * distance(transform_p(student feature), teacher feature)`` with ``w = normalisation(a)`` (equation
    2). Where a comes from is the mode: searched (``mmkd.ProcessSearchHook``, which a search needs beside this), replayed
    from the file a search has written, or fixed.

    Beside the pathways, or in their place, it weighs whatever losses other distillers of the model make: its ``members``.
    They are searched, replayed and pruned as pathways are; each stays in the log under its own distiller's name.

    Losses: ``loss_pathways``, the weighted sum of the pathways; none without levels.

    Raises:
        DistillationError: for options that do not fit, a process file that is broken or for other members, or a missing
            hook.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Distiller.Options):
        """The options of DistPro."""
        also_only = dict.fromkeys(('every', 'scale_by_every', 'fraction'), NOT_SEARCHED)
        renamed = dict.fromkeys(('teacher', 'student'), 'Write levels=[(<student tap>, <teacher tap>), ...], low to high; '
                                'one address where both are equal.')
        levels: Optional[List[ParsedPair]] = option(
            Either(Pairs(), (None,)), None, 'taps of the levels, low (early) to high (late): level i of the student '
            "corresponds to level i of the teacher. Where the order has no meaning (connections 'all', or a list) a tap may "
            'be in several levels. None, beside `members`: no pathways')
        members: Optional[List[str]] = option(
            Either(MemberNames(), (None,)), None, "what else it weighs: the model's other distillers, by name (`'mgd'`), or "
            "their losses one by one (`'mgd.loss_layer4'`); they act when it does")
        mode: str = option(
            Choice(MODES), 'process', "'process': replay the file, stretched to the run's length; 'final': the file's last "
            "importance at every step; 'equal': w = 1/P; 'constant': the importance in `values`; 'search', which acts in "
            'every iteration and on whole batches: it takes neither `every` nor `fraction`')
        process: Optional[str] = option(
            Either(Text('the path of a process file'), (None,)), None, "path of the file, for 'process' and 'final'; None: "
            '`search/process.json` in the work dir of the run, where `mmkd search` writes it', REPLAYED)
        values: Optional[List[float]] = option(
            Either(ListOf(Number(), 'finite numbers, the importance of each pathway'), (None,)), None,
            "importance a of each pathway, then of each of `members`, for 'constant'", dict(mode=('constant',)))
        connections: Union[str, List[ParsedPair]] = option(
            Connections(), 'lower_to_higher', "'lower_to_higher' (the paper's), 'higher_to_lower', 'all', or a list")
        transforms: Union[str, List[str]] = option(
            Transforms(), ('conv3_relu',), 'names of one or several trainable transforms')
        distance: Any = option(LossConfig(FeatureLoss), 'hcl', 'what is compared how, by each pathway: docs/losses.md')
        normalisation: str = option(
            Choice((*NORMALISATIONS, AUTO)), AUTO, "from importance to weights; 'auto': the process file's, "
            "'biased_softmax' without one", WEIGHED)
        bias: Union[float, str] = option(
            Either(Number(), (AUTO,)), AUTO, "g of the biased normalisations; 'auto': the file's, 1 without one",
            dict(WEIGHED, normalisation=('biased_softmax', 'biased_l1', AUTO)))
        tau: Union[float, str, None] = option(
            Either(Number(), (None, AUTO)), AUTO, "pathways whose importance is not above it are pruned while a process is "
            "replayed: neither transform nor loss is computed. None for no pruning; 'auto': the file's, 0.5 without one. "
            'A search writes it to the file and does not prune: a pruned pathway has no gradient and could not come back',
            WEIGHED)
        scales: Union[List[float], str, None] = option(
            Either(ListOf(Number(above=0), 'numbers > 0, one for each pathway, then for each of `members`'),
                   (None, AUTO, CALIBRATED)), AUTO,
            "a factor for each loss beside its weight. 'calibrated': found in the first iterations, so that with weight 1 "
            "its gradient at the student's taps is as strong as the task loss's, then frozen, and written to the file; "
            "None: 1 each. 'auto': the file's; without one 'calibrated' beside `members`, else None")
        scale_iters: Optional[int] = option(
            Either(Number(above=0, most=100000, whole=True), (None,)), None, 'how many iterations it takes to find '
            '`scales`, at most a tenth of a search, which does not move the importance then; None: until each has settled '
            '(200 to 2000), in a search 100')
        total: Union[float, str, None] = option(
            Either(Number(above=0), (None, AUTO)), AUTO, "what all weigh together while they are equally important, as when "
            "a search begins. None: what the normalisation gives, P / (P + 1) with the biased softmax, times P with "
            "`scale_by_pathways`; 'auto': the file's, None without one")
        scale_by_pathways: bool = option(
            Flag(), False, 'multiply by P, the number of pathways and members. The biased softmax gives each about '
            '1 / (P + 1)')
        pathway_map: Optional[Dict[str, Any]] = option(
            Either(PathwayMap('a dict of dicts: teacher={old: new}, student={...}, transform={...}, distiller={...}, '
                              'loss={...}'), (None,)), None,
            "from the file's names to those here: for replaying a process on other networks", REPLAYED)
        length: Optional[int] = option(
            Either(Number(above=0, most=10 ** 9, whole=True), (None,)), None,
            "iterations over which the process is stretched; by default the run's", dict(mode=('process',)))
        mask_padding: Optional[bool] = mask_padding_option()

        def check(self, given: Sequence[str]) -> None:
            super().check(given)
            if self.levels is None:
                self._check_without_levels(given)
            ordered = isinstance(self.connections, str) and self.connections != 'all'
            for side in ('student', 'teacher'):
                taps = [getattr(level, side) for level in self.levels or ()]
                if ordered and len(set(taps)) < len(taps):
                    raise DistillationError(f'names a level of the {side} twice', path='levels', given=taps,
                                            accepted='different taps, low to high')
            if self.mode == 'constant' and self.values is None:
                raise DistillationError("is missing with mode='constant'", path='values',
                                        accepted='finite numbers, the importance of each pathway')
            if self.scale_by_pathways and isinstance(self.total, (int, float)):
                raise DistillationError('has no meaning beside scale_by_pathways', path='total', given=self.total,
                                        accepted="'auto' or None, or scale_by_pathways=False")
            if self.members is not None and self.loss_scale != 1:
                raise DistillationError('is of pathways alone, and there are members', path='loss_scale',
                                        given=self.loss_scale, accepted='1, and loss_weight for all together')

        def _check_without_levels(self, given: Sequence[str]) -> None:
            if self.members is None:
                raise DistillationError('is missing', path='levels', accepted=f'{Pairs().accepted}; or members=[...]')
            for key in OF_LEVELS:
                if key in given and getattr(self, key) is not None:
                    raise DistillationError('has no meaning without levels', path=key, given=getattr(self, key),
                                            accepted='nothing, or levels=[...] beside it')

    options: Options
    search_hook: ClassVar[str] = 'mmkd.ProcessSearchHook'
    search_result: ClassVar[str] = 'process'

    def __init__(self, **options: Any):
        super().__init__(**options)
        levels = self.options.levels or []
        with under('connections'):
            pathways = make_pathways(_different(level.teacher for level in levels),
                                     _different(level.student for level in levels),
                                     self.options.connections, self.options.transforms)
        others = [OtherLoss.parse(name) for name in self.options.members or ()]
        with under('members'):
            check_different(others)
        self._set_members(pathways, others)
        self.teacher_taps = _different(pathway.teacher for pathway in self.pathways)
        self.student_taps = _different(pathway.student for pathway in self.pathways)
        self.valid_area = ValidArea(self.options.mask_padding)
        if self.options.values is not None and len(self.options.values) != len(self.members):
            raise DistillationError(path='values', given=self.options.values,
                                    accepted=f'{len(self.members)} finite numbers, the importance of each pathway')
        self.importance = Importance(self.options.mode, len(self.members), self.options.values, self.options.length)
        self._settle()
        self.transforms, self.distances = nn.ModuleList(), nn.ModuleList()

    def find_taps(self, surroundings: Surroundings) -> None:
        self.importance.path = self.path
        if self.options.mode not in ('process', 'final'):
            return
        with under('process'):
            path = surroundings.artefact(self.options.process, ARTEFACT, FORMAT.instead)
            process = read_process(path)
        renamed = rename(process.members, self.options.pathway_map or {})
        with under('process'):
            check_members(path, renamed, self.members)
        self.importance.process = process
        self._settle()

    def _settle(self) -> None:
        """Puts the file's values, or the defaults, where the config says 'auto'."""
        process = self.importance.process
        given = {key: getattr(self.options, key) for key in DEFAULTS}
        found = DEFAULTS if process is None else {key: getattr(process, key) for key in DEFAULTS}
        for key in ('normalisation', 'bias'):
            if process is not None and given[key] not in (AUTO, found[key]):
                raise DistillationError(f"is not what the process was searched with, {found[key]!r}", path=key,
                                        given=given[key], accepted="the file's, or 'auto'")
        settled: Dict[str, Any] = {key: found[key] if value == AUTO else value for key, value in given.items()}
        if settled['normalisation'] == 'biased_l1' and settled['bias'] < 0:
            raise DistillationError("would make weights of |a| / (||a||_1 + bias) negative or infinite", path='bias',
                                    given=settled['bias'], accepted="a number >= 0 with normalisation='biased_l1'")
        self.importance.settle(**settled)
        self._settle_strength()

    def _settle_strength(self) -> None:
        """Scales and total: the config's, or the file's, or what is to be found."""
        process, count = self.importance.process, len(self.members)
        scales, total = self.options.scales, self.options.total
        if scales == AUTO:
            scales = process.scales if process is not None else CALIBRATED if self.others.members else None
        if isinstance(scales, list) and len(scales) != count:
            raise DistillationError(path='scales', given=scales, accepted=f'{count} numbers > 0')
        awaits_file = self.options.mode in REPLAYED['mode'] and process is None
        self.scales = MemberScales(self.member_names, self.options.scale_iters) if (
            scales == CALIBRATED and not awaits_file) else None
        self._fixed_scales = scales if isinstance(scales, list) else None
        if total == AUTO:
            total = None if process is None or self.options.scale_by_pathways else process.total
        self.total = total if isinstance(total, (int, float)) else None
        if self.total is None:
            self._total = float(count) if self.options.scale_by_pathways else 1.0
            return
        ones = torch.full((count,), 1 / count) if self.options.mode == 'equal' else NORMALISATIONS[
            self.importance.normalisation](torch.ones(count), self.importance.bias)
        self._total = self.total / float(ones.sum())

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        if isinstance(self.options.connections, str) and self.options.connections != 'all':
            with under('levels'):
                check_pair_order(self.options.levels or (), student, teacher,
                                 "levels from low (early) to high (late), on both sides, or connections='all'")
        for pathway in self.pathways:
            ours, theirs = student[pathway.student], teacher[pathway.teacher]
            self.transforms.append(build_transform(pathway.transform, ours.channels, theirs.channels))
            distance = build_loss(self.options.distance, FeatureLoss)
            with under('distance'):
                distance.prepare(replace(ours, channels=theirs.channels, size=theirs.size), theirs)
            self.distances.append(distance)

    def describe(self) -> str:
        parts = [self.importance.describe()]
        if self.pathways:
            parts.append(f'{self.options.distance}, {len(self.pathways)} pathways (teacher < student): '
                         + '; '.join(map(str, self.pathways)))
        if self.others.members:
            parts.append(f'members {" and ".join(map(str, self.others.members.values()))}')
        if self.scales is not None:
            parts.append(f'scales {self.scales.describe()}')
        return ', '.join(parts)

    def unsettled(self) -> Sequence[str]:
        return [] if self.scales is None else self.scales.moving()

    def weight_at(self, iteration: int) -> float:
        weight = super().weight_at(iteration)
        return weight if weight and self.importance.weights(iteration) else 0.0

    def check_run(self, iterations: int) -> None:
        super().check_run(iterations)
        acting = self.options.acting(min(iterations, self.options.end or iterations))
        if self.options.loss_weight > 0 and not self.importance.is_live(acting, iterations):
            raise DistillationError('prunes every pathway in every iteration of the run: it would never act', path='tau',
                                    given=self.importance.tau, accepted='None, or a number below the largest importance')
        if self.options.loss_weight > 0 and self.importance.largest_sum() < LEAST_SUM:
            kind, bias = self.importance.normalisation, self.importance.bias
            raise DistillationError(f'makes weights that are 0 all together with normalisation={kind!r}: it would never act',
                                    path='bias' if kind.startswith('biased') else 'normalisation',
                                    given=bias if kind.startswith('biased') else kind,
                                    accepted='a smaller bias, or values that are not all 0')

    def taps_at(self, iteration: int) -> TapNames:
        live = [self.pathways[index] for index in self._live_pathways(iteration)]
        return TapNames([pathway.student for pathway in live], [pathway.teacher for pathway in live])

    def idle_parameters(self, iteration: int) -> Iterable[nn.Parameter]:
        live = self._live_pathways(iteration)
        return [parameter for modules in (self.transforms, self.distances) for index, module in enumerate(modules)
                if index not in live for parameter in module.parameters()]

    def _live_pathways(self, iteration: int) -> Dict[int, float]:
        return {index: weight for index, weight in self.importance.weights(iteration).items() if index < len(self.pathways)}

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        if self.options.mode == 'search' and self.search is None:
            raise DistillationError("needs a hook with mode='search'",
                                    hint="Add dict(type='mmkd.ProcessSearchHook') to custom_hooks.")
        weights = self._live_pathways(batch.iteration)
        losses = self.pathway_losses(student, teacher, batch, list(weights), self._watch(student))
        if self.scales is not None and not self.scales.finished:
            for index, loss in zip(weights, losses):
                self.scales.note(index, loss, [self.pathways[index].student])
        constants = [1.0] * len(self.pathways) if self.member_scales() is None else self.constants
        weighted = [weight * constants[index] * loss for (index, weight), loss in zip(weights.items(), losses)]
        return dict(loss_pathways=sum(weighted[1:], weighted[0]) * self._total) if weighted else {}

    def pathway_losses(self, student: Features, teacher: Features, batch: Batch, indices: Optional[Sequence[int]] = None,
                       gradients: Optional[MemberGradients] = None) -> List[Tensor]:
        """l_p of some pathways, or of all: scalars, in float32 where the features are in less; watched, if asked for."""
        chosen = {index: self.pathways[index] for index in (range(len(self.pathways)) if indices is None else indices)}
        sources = _maps(student, [pathway.student for pathway in chosen.values()])
        targets = laid_out(_maps(teacher, [pathway.teacher for pathway in chosen.values()]), like=sources)
        self.valid_area.refuse_norms_over_ranks(batch, self.transforms, 'transforms', 'batch norms of each rank alone (no '
                                                '`sync_bn` in the config)')
        losses = []
        for index, pathway in chosen.items():
            source, target = sources[pathway.student], targets[pathway.teacher]
            if gradients is not None:
                source = gradients.watch_input(index, pathway.student, source)
            ours, theirs = (self.valid_area.cells(batch, map_size(feature)) for feature in (source, target))
            cells = None if ours is None or theirs is None else valid_cells(ours, theirs)
            moved = apply_transform(self.transforms[index], pathway.transform, source, map_size(target), cells)
            if moved.shape != target.shape:  # a distance would broadcast it
                raise DistillationError(f'gives {tuple(moved.shape)}', path='transforms', given=pathway.transform,
                                        accepted=f'the shape of {pathway.teacher}, {tuple(target.shape)}')
            if gradients is not None and self.keeps_weight_gradients:
                gradients.watch_weights(index, [*self.transforms[index].parameters(), *self.distances[index].parameters()])
            loss = self.distances[index](moved, target, None if cells is None else cells[1], batch)
            if gradients is not None:
                gradients.watch_loss(index, [loss])
            losses.append(loss)
        return losses

    def member_losses(self, student: Features, teacher: Features, batch: Batch) -> List[Tensor]:
        """l_p of all members, not weighted: scalars. For further passes over a batch."""
        others = self.others.values(student, teacher, batch)
        return [*self.pathway_losses(student, teacher, batch), *(others[index] for index in self.others.members)]


def _maps(features: Features, taps: Iterable[str]) -> Features:
    return {tap: widened(as_map(features[tap])) for tap in dict.fromkeys(taps)}


def _different(taps: Iterable[str]) -> List[str]:
    return list(dict.fromkeys(taps))
