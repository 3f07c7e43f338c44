"""``mmkd.DistProDistiller``: pathways with an importance that changes over training (DistPro, ECCV 2022)."""
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    ContextManager,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Union,
)

import torch
from torch import Tensor, nn

from ..distiller import (
    Batch,
    Distiller,
    Features,
    IdleInPart,
    KeepsStep,
    Pairs,
    ParsedPair,
    SeesTaskLoss,
    Surroundings,
    TapNames,
)
from ..distiller.pairs import check_pair_order
from ..losses import FeatureLoss, LossConfig, ValidArea, build_loss, mask_padding_option
from ..registry import MODELS
from ..taps import TapInfo, laid_out
from ..taps.shapes import as_map, map_size, widened
from ..utils.errors import DistillationError, under
from ..utils.options import Block, Choice, Either, Flag, Kind, ListOf, Number, Text, option
from .artefact import FORMAT, check_pathways, read_process, rename
from .forward_tape import ForwardTape
from .importance import Importance
from .pathway_gradients import PathwayGradients
from .pathways import CONNECTIONS, make_pathways, name_pathways
from .transforms import Transforms, apply_transform, build_transform, valid_cells
from .weights import NORMALISATIONS

if TYPE_CHECKING:
    from .search import ProcessSearch

MODES = ('process', 'final', 'equal', 'constant', 'search')
AUTO = 'auto'
DEFAULTS = dict(normalisation='biased_softmax', bias=1.0, tau=0.5)
ARTEFACT = 'search/process.json'
LEAST_SUM = 1e-6
"""Weights that are less together are none: a loss of their size is lost beside any other."""
REPLAYED = dict(mode=('process', 'final'))
WEIGHED = dict(mode=('process', 'final', 'constant', 'search'))
"""The modes in which importance becomes weights."""
NOT_SEARCHED = dict(mode=('process', 'final', 'equal', 'constant'))
"""The modes that may leave iterations and images out: a search step looks at the whole training step before it."""


@dataclass(frozen=True)
class Connections(Kind):
    """Which levels are connected: a rule, or a list of pairs."""
    accepted = f'{", ".join(map(repr, CONNECTIONS))}, or a list of (student tap, teacher tap)'

    def fits(self, value: Any) -> bool:
        return self._kind(value).fits(value)

    def read(self, value: Any) -> Any:
        return self._kind(value).read(value)

    @staticmethod
    def _kind(value: Any) -> Kind:
        return Choice(CONNECTIONS, 'a list of (student tap, teacher tap)') if isinstance(value, str) else Pairs()


@dataclass(frozen=True)
class PathwayMap(Block):
    """By side, new names by old ones."""

    def read(self, value: Any) -> Any:
        for side, names in super().read(value).items():
            if not (isinstance(names, dict) and all(isinstance(name, str) for name in (*names, *names.values()))):
                raise DistillationError(path=side, given=names, accepted='a dict {old: new}')
        return value


@MODELS.register_module()
class DistProDistiller(Distiller, IdleInPart, KeepsStep, SeesTaskLoss):
    """Compares transformed student features with teacher features along many pathways, each with its own weight.

    ``loss = sum_p w_p * distance(transform_p(student feature), teacher feature)`` with ``w = normalisation(a)`` (equation
    2). Where a comes from is the mode: searched (``mmkd.ProcessSearchHook``, which a search needs beside this), replayed
    from the file a search has written, or fixed.

    Losses: ``loss_pathways``, the weighted sum.

    Raises:
        DistillationError: for options that do not fit, a process file that is broken or for other pathways, or a missing
            hook.

    Attributes:
        search: in a search, what moves the importance; set by its hook.
        keeps_gradients: whether the gradients of the pathway losses are kept in the coming step; set by the search.
        keeps_weight_gradients: whether those at the transforms' weights are, too.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Distiller.Options):
        """The options of DistPro."""
        also_only = dict.fromkeys(('every', 'scale_by_every', 'fraction'), NOT_SEARCHED)
        renamed = dict.fromkeys(('teacher', 'student'), 'Write levels=[(<student tap>, <teacher tap>), ...], low to high; '
                                'one address where both are equal.')
        levels: List[ParsedPair] = option(
            Pairs(), doc='taps of the levels, low (early) to high (late): level i of the student corresponds to level i of '
            "the teacher. Where the order has no meaning (connections 'all', or a list) a tap may be in several levels")
        mode: str = option(
            Choice(MODES), 'process', "'process': replay the file, stretched to the run's length; 'final': the file's last "
            "importance at every step; 'equal': w = 1/P; 'constant': the importance in `values`; 'search', which acts in "
            'every iteration and on whole batches: it takes neither `every` nor `fraction`')
        process: Optional[str] = option(
            Either(Text('the path of a process file'), (None,)), None, "path of the file, for 'process' and 'final'; None: "
            '`search/process.json` in the work dir of the run, where `tools/search.py` writes it', REPLAYED)
        values: Optional[List[float]] = option(
            Either(ListOf(Number(), 'finite numbers, the importance of each pathway'), (None,)), None,
            "importance a of each pathway, for 'constant'", dict(mode=('constant',)))
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
        scale_by_pathways: bool = option(
            Flag(), False, 'multiply by P. The biased softmax gives each of P pathways about 1 / (P + 1)')
        pathway_map: Optional[Dict[str, Any]] = option(
            Either(PathwayMap('a dict of dicts: teacher={old: new}, student={...}, transform={...}'), (None,)), None,
            "from the file's names to those here: for replaying a process on other networks", REPLAYED)
        length: Optional[int] = option(
            Either(Number(above=0, most=10 ** 9, whole=True), (None,)), None,
            "iterations over which the process is stretched; by default the run's", dict(mode=('process',)))
        mask_padding: Optional[bool] = mask_padding_option()

        def check(self, given: Sequence[str]) -> None:
            super().check(given)
            ordered = isinstance(self.connections, str) and self.connections != 'all'
            for side in ('student', 'teacher'):
                taps = [getattr(level, side) for level in self.levels]
                if ordered and len(set(taps)) < len(taps):
                    raise DistillationError(f'names a level of the {side} twice', path='levels', given=taps,
                                            accepted='different taps, low to high')
            if self.mode == 'constant' and self.values is None:
                raise DistillationError("is missing with mode='constant'", path='values',
                                        accepted='finite numbers, the importance of each pathway')

    options: Options
    search_hook: ClassVar[str] = 'mmkd.ProcessSearchHook'
    search_result: ClassVar[str] = 'process'

    def __init__(self, **options: Any):
        super().__init__(**options)
        levels = self.options.levels
        try:
            self.pathways = make_pathways(_different(level.teacher for level in levels),
                                          _different(level.student for level in levels),
                                          self.options.connections, self.options.transforms)
        except DistillationError as error:
            raise error.at('connections') from None
        self.pathway_names = name_pathways(self.pathways)
        self.teacher_taps = _different(pathway.teacher for pathway in self.pathways)
        self.student_taps = _different(pathway.student for pathway in self.pathways)
        self.valid_area = ValidArea(self.options.mask_padding)
        if self.options.values is not None and len(self.options.values) != len(self.pathways):
            raise DistillationError(path='values', given=self.options.values,
                                    accepted=f'{len(self.pathways)} finite numbers, the importance of each pathway')
        self.search: Optional[ProcessSearch] = None
        self.keeps_gradients = self.keeps_weight_gradients = False
        self._gradients: Optional[PathwayGradients] = None
        self._tape: Optional[ForwardTape] = None
        self.importance = Importance(self.options.mode, len(self.pathways), self.options.values, self.options.length)
        self._settle()
        self.transforms, self.distances = nn.ModuleList(), nn.ModuleList()

    def find_taps(self, surroundings: Surroundings) -> None:
        self.importance.path = self.path
        if self.options.mode not in ('process', 'final'):
            return
        with under('process'):
            path = surroundings.artefact(self.options.process, ARTEFACT, FORMAT.instead)
            process = read_process(path)
        renamed = rename(process.pathways, self.options.pathway_map or {})
        with under('process'):
            check_pathways(path, renamed, self.pathways)
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

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        if isinstance(self.options.connections, str) and self.options.connections != 'all':
            with under('levels'):
                check_pair_order(self.options.levels, student, teacher,
                                 "levels from low (early) to high (late), on both sides, or connections='all'")
        for pathway in self.pathways:
            ours, theirs = student[pathway.student], teacher[pathway.teacher]
            self.transforms.append(build_transform(pathway.transform, ours.channels, theirs.channels))
            distance = build_loss(self.options.distance, FeatureLoss)
            with under('distance'):
                distance.prepare(replace(ours, channels=theirs.channels, size=theirs.size), theirs)
            self.distances.append(distance)

    def describe(self) -> str:
        return (f'{self.importance.describe()}, {self.options.distance}, {len(self.pathways)} pathways (teacher < student): '
                + '; '.join(map(str, self.pathways)))

    def scale_at(self, iteration: int) -> float:
        """The factor of ``sum_p w_p l_p`` in the training loss."""
        return self.strength.weight_at(iteration) * self.strength.scale * self._pathway_factor

    @property
    def _pathway_factor(self) -> float:
        return float(len(self.pathways)) if self.options.scale_by_pathways else 1.0

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
        live = [self.pathways[index] for index in self.importance.weights(iteration)]
        return TapNames([pathway.student for pathway in live], [pathway.teacher for pathway in live])

    def idle_parameters(self, iteration: int) -> Iterable[nn.Parameter]:
        live = self.importance.weights(iteration)
        return [parameter for modules in (self.transforms, self.distances) for index, module in enumerate(modules)
                if index not in live for parameter in module.parameters()]

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        if self.options.mode == 'search' and self.search is None:
            raise DistillationError("needs a hook with mode='search'",
                                    hint="Add dict(type='mmkd.ProcessSearchHook') to custom_hooks.")
        weights = self.importance.weights(batch.iteration)
        tape, self._tape = self._tape, None
        self._gradients = None
        if self.keeps_gradients and torch.is_grad_enabled():
            self._gradients = PathwayGradients([student[tap] for tap in self.student_taps], tape)
        losses = self.pathway_losses(student, teacher, batch, list(weights), self._gradients)
        weighted = [weight * loss for weight, loss in zip(weights.values(), losses)]
        return dict(loss_pathways=sum(weighted[1:], weighted[0]) * self._pathway_factor)

    def pathway_losses(self, student: Features, teacher: Features, batch: Batch, indices: Optional[Sequence[int]] = None,
                       gradients: Optional[PathwayGradients] = None) -> List[Tensor]:
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
                source = gradients.watch_input(index, source)
            ours, theirs = (self.valid_area.cells(batch, map_size(feature)) for feature in (source, target))
            cells = None if ours is None or theirs is None else valid_cells(ours, theirs)
            moved = apply_transform(self.transforms[index], pathway.transform, source, map_size(target), cells)
            if moved.shape != target.shape:  # a distance would broadcast it
                raise DistillationError(f'gives {tuple(moved.shape)}', path='transforms', given=pathway.transform,
                                        accepted=f'the shape of {pathway.teacher}, {tuple(target.shape)}')
            if gradients is not None and self.keeps_weight_gradients:
                gradients.watch_weights(index, [*self.transforms[index].parameters(), *self.distances[index].parameters()])
            loss = self.distances[index](moved, target, None if cells is None else cells[1], batch)
            losses.append(loss if gradients is None else gradients.watch_loss(index, loss))
        return losses

    def watching(self, complete: Callable[[], bool]) -> ContextManager[Any]:
        self._tape = ForwardTape(complete) if self.keeps_gradients else None
        return self._tape or nullcontext()

    def take_gradients(self) -> Optional[PathwayGradients]:
        """Those of the last training step, which are no longer held here; ``keeps_gradients`` was set before it."""
        gradients, self._gradients = self._gradients, None
        return gradients


def pathway_sources(distiller: DistProDistiller, student: Features) -> List[Tensor]:
    """What the transforms get, for each of the distiller's ``student_taps``: (B, C_s, h, w), in float32 at least."""
    return list(_maps(student, distiller.student_taps).values())


def _maps(features: Features, taps: Iterable[str]) -> Features:
    return {tap: widened(as_map(features[tap])) for tap in dict.fromkeys(taps)}


def _different(taps: Iterable[str]) -> List[str]:
    return list(dict.fromkeys(taps))
