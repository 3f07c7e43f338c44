"""``mmkd.DistProDistiller``: pathways with an importance that changes over training (DistPro, ECCV 2022)."""
import math
from numbers import Real
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..core.distillation import run_length
from ..core.distiller import Batch, Distiller, Pair, TapNames
from ..core.errors import DistillationError, check_number, unknown_name
from ..core.shapes import as_map, widened
from ..core.taps import TapInfo
from ..losses import find_distance
from ..registry import MODELS
from .gradients import PathwayGradients
from .pathways import make_pathways, name_pathways
from .process import Process, check_pathways, read_process, rename
from .transforms import build_transform, parse_transforms
from .weights import find_normalisation, live_pathways

MODES = ('process', 'final', 'equal', 'constant', 'search')
AUTO = 'auto'
DEFAULTS = dict(normalisation='biased_softmax', bias=1.0, tau=0.5)


@MODELS.register_module()
class DistProDistiller(Distiller):
    """Compares transformed student features with teacher features along many pathways, each with its own weight.

    ``loss = sum_p w_p * distance(transform_p(student feature), teacher feature)`` with ``w = normalisation(a)`` (equation
    2). Where a comes from is the mode: searched (``mmkd.ProcessSearchHook``, which a search needs beside this), replayed
    from the file a search has written, or fixed.

    Args:
        teacher, student: taps of the levels, low (early) to high (late).
        mode: ``'process'``: replay the file, stretched to the run's length; ``'final'``: the file's last importance at every
            step; ``'equal'``: w = 1/P; ``'constant'``: the importance in ``values``; ``'search'``.
        process: path of the file, for ``'process'`` and ``'final'``; not looked at in other modes.
        values: importance a of each pathway, for ``'constant'``.
        connections: ``'lower_to_higher'`` (the paper's), ``'higher_to_lower'``, ``'all'``, or a list of (student tap,
            teacher tap); see :func:`~mmkd_plugin.distpro.pathways.make_pathways`.
        transforms: names of one or several: ``'conv1'``, ``'conv2'``, ``'conv3'``, ``'conv3_relu'``, ``'token1'``,
            ``'token2'``, ``'token3'``, or a registered one of your own; see :mod:`~mmkd_plugin.distpro.transforms`.
        distance: ``'hcl'``, ``'l1'``, ``'l2'``, or a registered one of your own.
        normalisation: ``'biased_softmax'``, ``'softmax'``, ``'biased_l1'``, ``'l1'`` or ``'sigmoid'``; ``'auto'``: the
            process file's, the first without one.
        bias: g of the biased ones; ``'auto'``: the file's, 1 without one.
        tau: pathways whose importance is not above it are pruned while a process is replayed: neither transform nor loss is
            computed. None for no pruning; ``'auto'``: the file's, 0.5 without one. Never in a search: a pruned pathway has
            no gradient and could not come back.
        scale_by_pathways: multiply by P. The biased softmax gives each of P pathways about 1 / (P + 1).
        pathway_map: ``teacher``, ``student``, ``transform``, each a dict from the file's name to the one here: for replaying
            a process on other networks.
        length: iterations over which the process is stretched; by default the run's.
        loss_weight, begin, end, warmup and others: see :class:`~mmkd_plugin.core.Distiller`.

    Losses: ``loss_pathways``, the weighted sum.

    Raises:
        DistillationError: for an unknown choice, a process file that is broken or for other pathways, or a missing hook.
    """

    def __init__(self, teacher: Sequence[str], student: Sequence[str], mode: str = 'process', process: Optional[str] = None,
                 values: Optional[Sequence[float]] = None, connections: Union[str, Sequence[Pair]] = 'lower_to_higher',
                 transforms: Union[str, Sequence[str]] = 'conv3_relu', distance: str = 'hcl', normalisation: str = AUTO,
                 bias: Union[float, str] = AUTO, tau: Union[float, str, None] = AUTO, scale_by_pathways: bool = False,
                 pathway_map: Optional[Dict[str, Dict[str, str]]] = None, length: Optional[int] = None, **schedule):
        super().__init__(**schedule)
        for key, taps in (('teacher', teacher), ('student', student)):
            if isinstance(taps, str) or not isinstance(taps, Sequence) or not taps or len(set(taps)) < len(taps):
                raise DistillationError(f'{key}: {taps!r}. Accepted: a list of different taps, low to high.')
        if not isinstance(mode, str) or mode not in MODES:
            raise unknown_name('mode', mode, MODES)
        if length is not None:
            check_number('length', length, above=0, whole=True)
        self.pathways = make_pathways(teacher, student, connections, parse_transforms(transforms))
        self.pathway_names = name_pathways(self.pathways)
        self.teacher_taps = list(dict.fromkeys(pathway.teacher for pathway in self.pathways))
        self.student_taps = list(dict.fromkeys(pathway.student for pathway in self.pathways))
        self.mode, self.length, self.scale_by_pathways = mode, length, bool(scale_by_pathways)
        self.distance, self.distance_name = find_distance(distance, 'distance'), distance
        self.process = self._read(process, pathway_map or {}) if mode in ('process', 'final') else None
        self._settle(normalisation, bias, tau)
        self._constant = _check_values(values, len(self.pathways)) if mode == 'constant' else None
        if mode == 'search':
            self.register_buffer('importance', torch.ones(len(self.pathways)))
        self.is_searched = self.keeps_gradients = False  # set by the hook
        self._gradients: Optional[PathwayGradients] = None
        self._live = len(self.pathways)
        self.forget_weights()  # those of the last iteration that was asked for are kept
        self.transforms = nn.ModuleList()

    def _read(self, path: Optional[str], names: dict) -> Process:
        process = read_process(path, 'process')
        check_pathways(rename(process.pathways, names), self.pathways, f'process: {str(path)!r}')
        return process

    def _settle(self, normalisation, bias, tau) -> None:
        """Puts the file's values, or the defaults, where the config says 'auto'."""
        given = dict(normalisation=normalisation, bias=bias, tau=tau)
        found = DEFAULTS if self.process is None else {key: getattr(self.process, key) for key in DEFAULTS}
        for key in ('normalisation', 'bias'):
            if self.process is not None and given[key] not in (AUTO, found[key]):
                raise DistillationError(f'{key}: the process was searched with another. File: {found[key]!r}. Config: '
                                        f"{given[key]!r}. Accepted: the file's, or 'auto'.")
        settled = {key: found[key] if value == AUTO else value for key, value in given.items()}
        self.normalise = find_normalisation(settled['normalisation'], 'normalisation')
        check_number('bias', settled['bias'])
        if not (settled['tau'] is None or isinstance(settled['tau'], Real) and not isinstance(settled['tau'], bool)):
            raise DistillationError(f"tau: {settled['tau']!r}. Accepted: a number, None (nothing is pruned) or 'auto'.")
        self.normalisation, self.bias, self.tau = settled['normalisation'], settled['bias'], settled['tau']

    def prepare(self, student: Dict[str, TapInfo], teacher: Dict[str, TapInfo], name: str) -> None:
        self.name = name
        self.transforms.extend(build_transform(pathway.transform, student[pathway.student].channels,
                                               teacher[pathway.teacher].channels) for pathway in self.pathways)

    def describe(self) -> str:
        source = f'{self.mode} {self.process.digest()}' if self.process is not None else self.mode
        return (f'{source}, {self.normalisation}, {self.distance_name}, {len(self.pathways)} pathways (teacher < student): '
                + '; '.join(map(str, self.pathways)))

    def importance_at(self, iteration: int) -> Tensor:
        """a (P,) at a global iteration, on the host unless it is being searched."""
        if self.mode == 'search':
            return self.importance
        if self.mode == 'process':
            return self.process.at(iteration, self._steps())
        if self.mode == 'final':
            return self.process.importance[-1]
        return self._constant if self.mode == 'constant' else torch.ones(len(self.pathways))

    def weights(self, iteration: int) -> Dict[int, float]:
        """Weight of every pathway that is not pruned at a global iteration, by its number; numbers of the host."""
        # Without a process they change only when the importance is moved, which forgets them.
        key = (iteration, self._steps()) if self.mode == 'process' else ()
        if self._memo[0] != key:
            importance = self.importance_at(iteration)
            if self.mode == 'equal':
                weights = {index: 1 / len(self.pathways) for index in range(len(self.pathways))}
            else:
                # The normaliser sums over all pathways, the pruned ones too: the others' weights do not jump.
                all_weights = self.normalise(importance, self.bias).tolist()
                live = live_pathways(importance, None if self.mode == 'search' else self.tau)
                weights = {index: all_weights[index] for index in live}
            self._memo = (key, weights)
            if self.mode != 'search' and len(weights) != self._live:
                self._live = len(weights)
                print_log(f'model.distillers.{self.name}: {self._live} of {len(self.pathways)} pathways from iteration '
                          f'{iteration} on; the others are pruned', 'current')
        return self._memo[1]

    def forget_weights(self) -> None:
        """To be called when ``importance`` has been moved."""
        self._memo: Tuple[Optional[tuple], Dict[int, float]] = (None, {})

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self.forget_weights()

    def _steps(self) -> int:
        steps = self.length or run_length()
        if steps is None:
            raise DistillationError(f'model.distillers.{self.name}.length is missing: outside a Runner the length of the '
                                    'run is not known. Accepted: a whole number of iterations > 0.')
        return steps

    def scale_at(self, iteration: int) -> float:
        """The factor of ``sum_p w_p l_p`` in the training loss."""
        return super().weight_at(iteration) * self.scale * self._pathway_factor

    @property
    def _pathway_factor(self) -> float:
        return float(len(self.pathways)) if self.scale_by_pathways else 1.0

    def weight_at(self, iteration: int) -> float:
        weight = super().weight_at(iteration)
        return weight if weight and self.weights(iteration) else 0.0

    def taps_at(self, iteration: int) -> TapNames:
        live = [self.pathways[index] for index in self.weights(iteration)]
        return TapNames([pathway.student for pathway in live], [pathway.teacher for pathway in live])

    def idle_parameters(self, iteration: int) -> Iterable[nn.Parameter]:
        live = self.weights(iteration)
        return [parameter for index, transform in enumerate(self.transforms) if index not in live
                for parameter in transform.parameters()]

    def forward(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor], batch: Batch) -> Dict[str, Tensor]:
        if self.mode == 'search' and not self.is_searched:
            raise DistillationError(f"model.distillers.{self.name}: mode 'search' needs dict(type='mmkd.ProcessSearchHook') "
                                    'in custom_hooks.')
        weights = self.weights(batch.iteration)
        self._gradients = PathwayGradients() if self.keeps_gradients and torch.is_grad_enabled() else None
        losses = self.pathway_losses(student, teacher, list(weights), self._gradients)
        total = sum(weight * loss for weight, loss in zip(weights.values(), losses))
        return dict(loss_pathways=total * self._pathway_factor)

    def pathway_losses(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor], indices: Optional[Sequence[int]] = None,
                       gradients: Optional[PathwayGradients] = None) -> List[Tensor]:
        """l_p of some pathways, or of all: scalars, in float32 where the features are in less; watched, if asked for."""
        chosen = {index: self.pathways[index] for index in (range(len(self.pathways)) if indices is None else indices)}
        sources = _maps(student, [pathway.student for pathway in chosen.values()])
        targets = _maps(teacher, [pathway.teacher for pathway in chosen.values()])
        losses = []
        for index, pathway in chosen.items():
            source, target = sources[pathway.student], targets[pathway.teacher]
            if gradients is not None:
                source = gradients.watch_input(index, source)
            moved = self.transforms[index](source, target.shape[2:])
            if moved.shape != target.shape:  # a distance would broadcast it
                raise DistillationError(f'model.distillers.{self.name}: the transform {pathway.transform!r} gives '
                                        f'{tuple(moved.shape)}. Accepted: the shape of {pathway.teacher}, '
                                        f'{tuple(target.shape)}.')
            loss = self.distance(moved, target)
            losses.append(loss if gradients is None else gradients.watch_loss(index, loss))
        return losses

    def sources(self, student: Dict[str, Tensor]) -> List[Tensor]:
        """What the transforms get, for each of ``student_taps``: (B, C_s, h, w), in float32 at least."""
        return list(_maps(student, self.student_taps).values())

    def take_gradients(self) -> PathwayGradients:
        """Those of the last training step, which are no longer held here; ``keeps_gradients`` was set before it."""
        gradients, self._gradients = self._gradients, None
        return gradients


def _maps(features: Dict[str, Tensor], taps: Iterable[str]) -> Dict[str, Tensor]:
    return {tap: widened(as_map(features[tap])) for tap in dict.fromkeys(taps)}


def _check_values(values: Optional[Sequence[float]], pathways: int) -> Tensor:
    fits = isinstance(values, (list, tuple)) and len(values) == pathways and all(
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) for value in values)
    if not fits:
        raise DistillationError(f'values: {values!r}. Accepted: {pathways} finite numbers, the importance of each pathway.')
    return torch.tensor(values, dtype=torch.float64)
