"""``mmkd.AggregationSearchHook``: the search of DFA's aggregation weights on the ordinary training loop."""
import copy
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import torch
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from ..distiller import reentrant_checkpoints_refused
from ..model import DistilledMixin, StatefulHook, distillation_of, distilled
from ..registry import HOOKS
from ..search import SearchOptions, SearchRun, naming_samples, seed_generators
from ..search.run import FileName
from ..utils.errors import DistillationError, under
from ..utils.isolation import preserved_buffers, preserved_rng
from ..utils.kinds import OptimizerConfig
from ..utils.options import Either, Flag, ListOf, Number, option
from ..utils.records import Entry, Fields, Listing, Maybe, Named, Plain, Real, Whole
from .artefact import write_aggregation
from .bilevel import virtual_steps
from .bridge import BALANCE_RANGE
from .distiller import FeatureAggregationDistiller
from .phases import Phase, beta_steps_before, phase_at, phases_of
from .search import AggregationSearch, Gammas, PathLosses

KEY = 'AggregationSearchHook'
OPTIMIZER = dict(type='Adam', lr=3e-3, betas=(0.5, 0.999))
COURSE_POINTS = 100
LOWEST, HIGHEST = BALANCE_RANGE
WHOLE = Number(above=0, whole=True)
SEARCHED_WITH = FeatureAggregationDistiller.Options.without_meaning(mode='distill')
"""Options of the distiller that only a search has."""


@dataclass(frozen=True)
class Lengths(ListOf):
    """One whole number or several."""

    def fits(self, value: Any) -> bool:
        return super().fits(value) or self.kind.fits(value)

    def read(self, value: Any) -> Any:
        return self.kind.read(value) if self.kind.fits(value) else super().read(value)


@HOOKS.register_module()
class AggregationSearchHook(StatefulHook):
    """Searches one group after the other; in each iteration first beta on validation, then the weights on training data.

    The step of the weights is the run's own. That of beta comes before it and leaves weights, buffers, the run's optimiser
    and its random numbers as they are. At the end the aggregation weights are written to a file for ``mode='distill'``. The
    state lies in the checkpoint, so a resumed search is the uninterrupted one.

    Args:
        given: see ``Options``.

    Raises:
        DistillationError: for options that do not fit; when training starts, if there is no validation data, no searching
            distiller, the run has not as many iterations as the groups, or a search is resumed with other settings.
    """
    priority = 'NORMAL'  # before checkpoints are saved
    state_key = 'aggregation_search'

    @dataclass(frozen=True, kw_only=True)
    class Options(SearchOptions):
        """The options of the hook."""
        iterations: Union[int, List[int], None] = option(
            Either(Lengths(WHOLE, 'whole numbers > 0, or one for all'), (None,)), None, 'I_s of every group, or a list for '
            'the groups with more than one layer; by default the run in equal parts')
        optimizer: Dict[str, Any] = option(
            OptimizerConfig(needs=('type',)), OPTIMIZER, 'of beta; each group has a new '
            'one. lr * I_s should be 2 to 10: Adam moves each beta by at most lr a step')
        regularisation: float = option(Number(least=0, below=1e6), 1e-3,
                                       'lambda; lambda / 2 * |beta|^2 is added to the loss of beta')
        weights_first: float = option(Number(least=0, below=1), 0.0,
                                      "fraction of each group's iterations that train weights only")
        unrolled: bool = option(
            Flag(), False, "whether the gradient of beta is taken at the weights of the next training step (second order). "
            "That step is SGD's, momentum included, without clipping; batches in which `gamma_st='auto'` is measured are "
            'first order')
        out: str = option(FileName(), 'aggregation.json', 'name of the file, in the work dir')

    def __init__(self, **given: Any):
        with under(KEY):
            self.options = self.Options.read(given)
        self.run = SearchRun(KEY, self.options)
        self._phases: List[Phase] = []
        self._search: Optional[AggregationSearch] = None
        self._distiller: Optional[FeatureAggregationDistiller] = None

    @property
    def search(self) -> AggregationSearch:
        """The search, once training has started."""
        assert self._search is not None, 'training starts it'
        return self._search

    def before_train(self, runner: Runner) -> None:
        self._distiller = self.run.begin(runner, FeatureAggregationDistiller)
        with under(self._distiller.path):
            self._search = start_search(self._distiller, self.options.optimizer, self.options.regularisation)
        names = {index: group.name for index, group in enumerate(self._search.groups) if group.searched}
        with under(KEY):
            self._phases = phases_of(names, runner.max_iters, self.options.iterations, self.options.weights_first)
        phases = [[phase.group, phase.begin, phase.end, phase.beta_begin] for phase in self._phases]
        saved = self.run.resume(dict(self._how(), phases=phases))
        if saved is not None:
            with under(f'mmkd.hooks.{self.state_key}'):
                with under('course'):
                    self.run.course.check({group.name: len(group.weights()) for group in self._search.groups})
                with under('search'):
                    self._search.load(saved)
        self.run.open(start=beta_steps_before(self._phases, runner.iter))
        print_log(f'search of {len(names)} groups: ' + ', '.join(
            f'{names[phase.group]} in iterations {phase.begin + 1} to {phase.end}' for phase in self._phases),
            logger=runner.logger)

    def state_dict(self) -> Dict[str, Any]:
        return self.run.state(self.search.state())

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.run.load(state)

    def state_entry(self) -> Entry:
        return self.run.state_entry(Fields(dict(
            index=Maybe(Whole()), optimizer=Maybe(Named(Plain())),
            gammas=Fields(dict(st=Real(), norms=Listing(Real(), 2), seen=Whole())),
            used_gammas=Named(Fields(dict(st=Real(), ts=Real()))))))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        phase = self._phase(runner)
        with under(KEY):
            self.search.enter(phase.group)
        if runner.iter == phase.begin:
            self._note(runner.iter)
        if runner.iter < phase.beta_begin:
            return
        self.search.step(self._gradient(runner, distilled(runner), data_batch))

    def _gradient(self, runner: Runner, model: DistilledMixin, data_batch: Any) -> Optional[Tensor]:
        wrapper, scale = runner.optim_wrapper, None
        if hasattr(wrapper, 'loss_scaler'):
            scale = wrapper.loss_scaler.scale(torch.ones((), device=next(model.parameters()).device))
        with preserved_rng(), preserved_buffers(model), distillation_of(runner).idle.unchanged():
            seed_generators(self.options.seed, runner.iter)
            validation = model.data_preprocessor(self.run.next_batch(), True)
            train = None
            if self.options.unrolled:
                # Some preprocessors pad the ground truth in place; the run's own step has it still before it.
                training = model.data_preprocessor(copy.deepcopy(data_batch), True)
                train = partial(self._losses, runner, model, training)
            with reentrant_checkpoints_refused('Switch it off for the search.'):
                return self.search.gradient(partial(self._losses, runner, model, validation), train,
                                             lambda: virtual_steps(wrapper.optimizer), scale)

    def _losses(self, runner: Runner, model: DistilledMixin, data: Any) -> PathLosses:
        seed_generators(self.options.seed, runner.iter)  # forwards whose difference is taken drop the same
        with runner.optim_wrapper.optim_context(runner.model), naming_samples(KEY):
            losses = model._run_forward(data, mode='loss')
        st = losses.pop(f'{self._present_name()}.loss_st')
        return PathLosses(ts=model.parse_losses(losses)[0], st=st)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        phase, done = self._phase(runner), runner.iter + 1
        if done == phase.end or (done - phase.begin) % max(1, (phase.end - phase.begin) // COURSE_POINTS) == 0:
            self._note(done)
        group, gammas = self.search.group, self.search.gammas
        self.run.log({f'{group.name}.{number}': weight for number, weight in enumerate(group.weights(), 1)})
        if gammas.auto:
            self.run.log(dict(gamma_st=gammas.st))
        if done == phase.end:
            self._report(runner)

    def _report(self, runner: Runner) -> None:
        group, gammas = self.search.group, self.search.gammas
        weights = ' '.join(f'{weight:.3f}' for weight in group.weights())
        print_log(f'search of {group.name} done: weights {weights} (shallow to deep), gamma_st {gammas.st:.3g}, gamma_ts '
                  f'{gammas.ts:.3g}', logger=runner.logger)
        if gammas.at_bound:
            print_log(f"search of {group.name}: gamma_st='auto' stopped at {gammas.st:.3g}, the end of its range "
                      f'({LOWEST:g} to {HIGHEST:g} times gamma_ts), after {gammas.batches} batches: the two paths do not '
                      'pull equally hard. A number may go further.',
                      logger=runner.logger, level=logging.WARNING)

    def after_train(self, runner: Runner) -> None:
        self.run.close(runner.iter >= self._phases[-1].end, self._write)

    def _write(self, path: Path) -> None:
        teacher = distillation_of(self.run.runner).teachers.of(self.search.groups[0].teacher)
        groups = [dict(name=group.name, student=group.student, teacher=list(group.teacher), weights=group.weights())
                  for group in self.search.groups]
        write_aggregation(path, groups, dict(model=type(teacher.model).__name__, sha256=teacher.identity.get('sha256')),
                          dict(self._how(), gammas=self.search.used_gammas), self.run.meta, self.run.course.state())

    def _note(self, done: int) -> None:
        """Adds the present weights of the group to the course."""
        self.search.note_gammas()
        self.run.course.note(self.search.group.name, done, [round(weight, 5) for weight in self.search.group.weights()])

    def _phase(self, runner: Runner) -> Phase:
        phase = phase_at(self._phases, runner.iter)
        assert phase is not None
        return phase

    def _present_name(self) -> str:
        assert self._distiller is not None
        return self._distiller.name

    def _how(self) -> Dict[str, Any]:
        """How it is searched: for the reader of the file, and for resuming."""
        assert self._distiller is not None
        options, of_distiller = self.options, self._distiller.options
        return dict(iterations=self.run.runner.max_iters, order='unrolled' if options.unrolled else 'first',
                    seed=options.seed, regularisation=options.regularisation, weights_first=options.weights_first,
                    optimizer=dict(options.optimizer), **{name: getattr(of_distiller, name) for name in SEARCHED_WITH},
                    **(dict(normalise_layers=True) if of_distiller.normalise_layers else {}))


def start_search(distiller: FeatureAggregationDistiller, optimizer: Dict[str, Any],
                 regularisation: float) -> AggregationSearch:
    """Makes the state of a search, and gives it to the distiller.

    Args:
        distiller: the distiller that is searched, in mode ``'search'``.
        optimizer: config of the optimiser of beta.
        regularisation: lambda, the factor on ``|beta|^2 / 2`` in the loss of beta.

    Raises:
        DistillationError: if every group has one layer only.
    """
    groups = distiller.connected_groups()
    if not any(group.searched for group in groups):
        names = ', '.join(group.name for group in groups)
        raise DistillationError(f'has one layer of the teacher in every group ({names}); there is nothing to search',
                                path='pairs', accepted='a stage of several blocks, of which '
                                f'every_block={distiller.options.every_block} leaves more than one')
    gammas = Gammas(distiller.options.gamma_st, distiller.options.gamma_ts)
    distiller.search = AggregationSearch(groups, gammas, optimizer, regularisation)
    return distiller.search
