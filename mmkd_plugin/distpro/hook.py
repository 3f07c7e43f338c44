"""``mmkd.ProcessSearchHook``: searches a process during an ordinary training run and writes it to a file."""
import functools
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import torch
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..model import StatefulHook, distilled
from ..registry import HOOKS
from ..search import Clipping, SearchOptions, SearchRun, clipping_of
from ..search.run import FileName
from ..utils.errors import DistillationError, under
from ..utils.options import Choice, Either, ListOf, Number, option
from ..utils.records import Entry, Fields, Named, Plain, Whole, Words
from .artefact import write_process
from .distiller import DistProDistiller
from .moves import step_size
from .process import UNITS, Process, choose_every, record_positions
from .search import HYPERGRADIENTS, ProcessSearch, Snapshot
from .significance import doubts, relative_entropy

KEY = 'ProcessSearchHook'
VALIDATIONS = ('held_out', 'next_batch')
IMPORTANCE, AUTO = 'importance', 'auto'
DIGITS = 4


@HOOKS.register_module()
class ProcessSearchHook(StatefulHook):
    """Moves the importance of the pathways after every training step, so that the step would have served validation better.

    The training step itself is the loop's own; the meta part adds a forward and a backward of the student on a validation
    batch and one forward-mode pass (or two passes, by finite differences) over the training batch, with the teacher's
    features of the step. With ``validation='next_batch'`` the next training batch judges the step before it trains, and its
    own forward serves for that. The meta part changes the importance and nothing else. With gradient accumulation it runs
    when the weights move. At the end ``<work_dir>/process.json`` is written; an interrupted search that is resumed writes
    the same file.

    Args:
        given: see ``Options``.

    Raises:
        DistillationError: for options that do not fit; when training starts, for a model with nothing to search, a training
            set that is not split where no loader is given, several optimisers, no iteration at which it would act, or other
            settings than those of the checkpoint that is resumed.
    """
    priority = 'NORMAL'  # before logs are written and checkpoints saved
    state_key = 'process_search'

    @dataclass(frozen=True, kw_only=True)
    class Options(SearchOptions):
        """The options of the hook."""
        also_only = dict(dataloader=dict(validation=('held_out',)))
        lr: Union[float, str] = option(
            Either(Number(above=0, below=1e6), (AUTO,)), AUTO, "of Adam on the importance; 'auto': the paper's 0.05 in a "
            'search of 12480 steps, as long as its own, or more, and less in a shorter one (docs/distpro.md)')
        betas: List[float] = option(ListOf(Number(least=0, below=1), 'numbers in [0, 1)', length=2), (0.5, 0.999),
                                    "of Adam on the importance; the authors'")
        hypergradient: str = option(
            Choice(HYPERGRADIENTS), 'exact', "'exact' (forward mode; where an operation cannot, the other one, with a "
            "notice) or 'finite_difference' (the paper's)")
        radius: float = option(Number(above=0), 0.01, 'of the finite difference, eps = radius / ||v||')
        validation: str = option(
            Choice(VALIDATIONS), 'held_out', "what judges a training step: 'held_out', images that training does not see; "
            "'next_batch', the training batch after it, before it trains, which costs no forward; training sees all images")
        window: int = option(Number(above=0, most=10 ** 6, whole=True), 1, 'gradients that are averaged for one move')
        rest: float = option(Number(least=0, below=1), 0.0, 'the part of the search at whose start the importance stays as '
                             'it is, while its gradients are looked at')
        interval: int = option(Number(above=0, whole=True), 1, 'a search step every so many iterations')
        until: float = option(
            Number(above=0, most=1), 1.0, 'the part of the run that is a search; for the rest of it the same student is '
            'trained on, with the process that was found, stretched over the rest; scales that are calibrated are looked '
            'for once more then')
        unit: str = option(Choice(UNITS), 'iter', 'what the file counts: the importance with which an iteration begins, or '
                           'an epoch ends')
        every: Optional[int] = option(Either(Number(above=0, whole=True), (None,)), None,
                                      'a record every so many units; by default as often as the file stays below 1 MB')
        out: str = option(FileName(), 'process.json', 'name of the file, in the work dir')

    def __init__(self, **given: Any):
        with under(KEY):
            self.options = self.Options.read(given)
        self.run = SearchRun(KEY, self.options)
        self.search: Optional[ProcessSearch] = None
        self._before: Optional[Snapshot] = None
        self._clipping: Optional[Clipping] = None
        self._length = self._every = self._steps = self._end = self._windows = 0
        self._lr = 0.0

    def before_train(self, runner: Runner) -> None:
        distiller = self.run.begin(runner, DistProDistiller)
        options = self.options
        if options.unit == 'epoch' and not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise DistillationError('does not go with a run that counts iterations', path=f'{KEY}.unit', given='epoch',
                                    accepted="'iter'")
        if options.unit == 'epoch' and options.until < 1:
            raise DistillationError("counts iterations where a part of the run is searched", path=f'{KEY}.unit',
                                    given='epoch', accepted="'iter'")
        self._end = max(1, round(options.until * runner.max_iters))
        self._length = runner.max_epochs if options.unit == 'epoch' else self._end
        self._every = options.every or choose_every(self._length, len(distiller.members))
        first = 0 if distiller.scales is None else distiller.options.begin + distiller.scales.in_search(self._end)
        self._check_steps(distiller, first)
        self.search = self._make_search(distiller, first)
        saved = self.run.resume(self._settings())
        if saved is not None:
            with under(f'mmkd.hooks.{self.state_key}'):
                with under('course'):
                    self.run.course.check({IMPORTANCE: len(distiller.members)})
                with under('search'):
                    self.search.load(saved)
            self._windows = self.search.moves.evidence.windows  # which the run that is resumed has logged
        if not self._waits:
            self.run.open(start=self.search.steps)
        self._clipping = clipping_of(runner.optim_wrapper)
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is not None:
            self.search.loss_scale = scaler.get_scale

    def _check_steps(self, distiller: DistProDistiller, first: int) -> None:
        """Raises :class:`DistillationError` unless a search step falls on an iteration where it is possible.

        Args:
            distiller: the distiller that is searched.
            first: the first iteration that a search step may follow.
        """
        interval, end = self.options.interval, self._end
        possible = [iteration for iteration in range(first, end) if self._is_judged(distiller, iteration)]
        if not possible:
            reasons = [f'scales are found in the first {first} (begin, scale_iters)'] if first else []
            reasons += ['the last has none after it that judges it'] if self._waits else []
            if not any(distiller.weight_at(iteration) for iteration in range(first, end)):
                reasons.append(f'{distiller.path} acts in no other (loss_weight, begin, end)')
            raise DistillationError(f'the search has {end} iterations, and none for a search step: {", ".join(reasons)}',
                                    path=KEY, accepted='a longer search (train_cfg, until, searched of a '
                                    'mmkd.AutoDistiller), or a distiller that acts in it')
        steps = [iteration for iteration in possible if (iteration + 1) % interval == 0]
        if not steps:
            raise DistillationError(
                f'is too large: in {end} iterations no search step falls where {distiller.path} acts (loss_weight, begin, '
                'end)', path=f'{KEY}.interval', given=interval, accepted=f'a whole number up to {possible[-1] + 1}, of '
                'iterations after which it acts')
        if self._waits and all(map(self._is_dropped, steps)):
            raise DistillationError(
                'has every search step just before a checkpoint, where it is not judged', path=f'{KEY}.interval',
                given=interval, accepted='a number that is no multiple of the interval of default_hooks.checkpoint')

    def _make_search(self, distiller: DistProDistiller, first: int) -> ProcessSearch:
        options, runner = self.options, self.run.runner
        end = min(distiller.options.end or self._end, self._end) - self._waits
        together = math.lcm(options.interval, getattr(runner.optim_wrapper, '_accumulative_counts', 1))
        before = max(first, distiller.options.begin) // together
        steps = max(1, end // together - before)
        if options.window > steps:
            raise DistillationError('is larger than the search is long: the importance would never move',
                                    path=f'{KEY}.window', given=options.window,
                                    accepted=f'a whole number up to {steps}, the steps of this search')
        last_move = (before + steps // options.window * options.window) * together - 1
        if last_move < options.rest * self._end:
            raise DistillationError('takes up the whole search: the importance would never move', path=f'{KEY}.rest',
                                    given=options.rest, accepted=f'a number up to {last_move / self._end:.3g}')
        self._lr = step_size(steps) if options.lr == AUTO else float(options.lr)
        distiller.search = ProcessSearch(distilled(runner), distiller, self._lr, options.betas, options.hypergradient,
                                         options.radius, options.seed, options.window)
        return distiller.search

    def _is_judged(self, distiller: DistProDistiller, iteration: int) -> bool:
        """Whether a search step for an iteration is possible."""
        weight_at = distiller.weight_at
        after = not self._waits or (iteration + 1 < self._end and weight_at(iteration + 1) > 0)
        return weight_at(iteration) > 0 and after

    def _is_dropped(self, iteration: int) -> bool:
        """Whether a checkpoint is saved between an iteration and the next."""
        runner = self.run.runner
        intervals = [hook.interval * (len(runner.train_dataloader) if hook.by_epoch else 1)
                     for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        return any(interval > 0 and (iteration + 1) % interval == 0 for interval in intervals)

    @property
    def _waits(self) -> bool:
        return self.options.validation == 'next_batch'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        assert self.search is not None
        if runner.iter >= self._end:
            self._replay()
            return
        if not self._waits:  # otherwise it moves in the forward, before it is used
            self._record_iteration(runner)
        distiller = self.search.distiller
        moves = runner.optim_wrapper.should_sync()  # whether the step that comes moves the weights
        acts = distiller.weight_at(runner.iter) > 0 and (distiller.scales is None or distiller.scales.finished)
        due = moves and acts and (runner.iter + 1) % self.options.interval == 0
        distiller.keeps_step = due
        distiller.keeps_gradients = due and self.search.hypergradient == 'exact'
        distiller.see_task_loss = self.search.judge if self.search.waits else None
        self.search.rests = runner.iter < self.options.rest * self._end
        self._steps = self.search.steps
        self._before = self.search.snapshot(runner.optim_wrapper.optimizer, self._clipping) if due else None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        assert self.search is not None
        if runner.iter >= self._end:
            return
        search, before, self._before = self.search, self._before, None
        search.drop()  # where the distiller has not acted in this iteration, nothing has judged the step before
        if before is not None:
            kept, model = search.distiller.take_step(), distilled(runner)
            autocast = functools.partial(runner.optim_wrapper.optim_context, model)
            if self._waits:
                search.wait(before, kept, autocast)
            else:
                search.step(before, kept, self.run.next_batch(), autocast)
        if self._waits:
            self._record_iteration(runner)
        if search.steps > self._steps:
            self._log(runner)

    def _replay(self) -> None:
        """The search has ended and the run goes on: with the process that was found."""
        assert self.search is not None
        distiller = self.search.distiller
        if distiller.importance.process is None:
            self.search.drop()
            distiller.keeps_step = distiller.keeps_gradients = distiller.keeps_weight_gradients = False
            distiller.see_task_loss = None
            if distiller.scales is not None:
                distiller.scales.go_on()
            distiller.importance.replay(self.process(), self._end)

    def before_saving_on_every_rank(self, runner: Runner) -> None:
        """A step that waits to be judged is left out, here and in the run that goes on from the checkpoint."""
        assert self.search is not None
        self.search.drop()

    def _log(self, runner: Runner) -> None:
        assert self.search is not None
        distiller, evidence = self.search.distiller, self.search.moves.evidence
        weights = distiller.importance.weights(runner.iter)
        self.run.log({distiller.member_names[index]: weight for index, weight in weights.items()})
        self.run.log(dict(entropy=relative_entropy(list(weights.values()))))
        if evidence.windows > self._windows:
            self._windows = evidence.windows
            self.run.log({f'{name}.significance': value for name, value in zip(distiller.member_names, evidence.overall)})
            if evidence.recent_agreement is not None:
                self.run.log(dict(agreement=evidence.recent_agreement))
        if self.search.skipped:
            self.run.log(dict(skipped=self.search.skipped))

    def after_train_epoch(self, runner: Runner) -> None:
        if self.options.unit == 'epoch':
            self._record(runner.epoch)

    def after_train(self, runner: Runner) -> None:
        assert self.search is not None
        records = len(self.run.course.values(IMPORTANCE))
        self.run.close(records == len(record_positions(self._length, self._every)), self._write)
        if self.search.skipped == self.search.steps:
            print_log('search: every step was skipped, and the weights are those it began with: the gradient of the '
                      'validation loss was 0 or not finite', 'current', level=logging.WARNING)
        elif self.search.skipped:
            print_log(f'search: {self.search.skipped} of {self.search.steps} steps were skipped', 'current')
        for doubt in doubts(self.search.moves.evidence.agreement, self._entropy()):
            print_log(f'search: {doubt}', 'current', level=logging.WARNING)

    def process(self) -> Process:
        """The recorded process."""
        assert self.search is not None
        distiller = self.search.distiller
        importance, records = distiller.importance, self.run.course.values(IMPORTANCE)
        scales = distiller.member_scales() if distiller.scales is None else distiller.scales.of_search()
        return Process(distiller.members, importance.normalisation, importance.bias, importance.tau,
                       torch.tensor(records, dtype=torch.float64), self._length, self._every, self.options.unit,
                       self.run.meta, distiller.total, scales, stability=self._stability())

    def _stability(self) -> Dict[str, Any]:
        """How sure the process is, for its file; of each member where it is a list."""
        assert self.search is not None
        evidence = self.search.moves.evidence
        agreement = evidence.agreement
        return dict(lr=self._lr, window=self.options.window, rest=self.options.rest, steps=self.search.steps,
                    entropy=round(self._entropy(), DIGITS),
                    agreement=None if agreement is None else round(agreement, DIGITS),
                    significance=[round(value, DIGITS) for value in evidence.overall])

    def _entropy(self) -> float:
        assert self.search is not None
        return relative_entropy(list(self.search.distiller.importance.weights(self.run.runner.iter).values()))

    def state_dict(self) -> Dict[str, Any]:
        assert self.search is not None
        return self.run.state(self.search.state())

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.run.load(state)

    def state_entry(self) -> Entry:
        return self.run.state_entry(Fields(dict(optimiser=Named(Plain()), evidence=Named(Plain()), steps=Whole(),
                                                skipped=Whole(), hypergradient=Words(HYPERGRADIENTS))))

    def _write(self, path: Path) -> None:
        write_process(path, self.process())

    def _settings(self) -> Dict[str, Any]:
        """What must be the same when the search is resumed; without it the file's records would not belong together."""
        assert self.search is not None
        options, distiller = self.options, self.search.distiller
        scales = distiller.member_scales() if distiller.scales is None else 'calibrated'
        return dict(bias=distiller.importance.bias, total=distiller.total, scales=scales,
                    scale_by_pathways=distiller.options.scale_by_pathways, lr=options.lr, betas=list(options.betas),
                    hypergradient=options.hypergradient, radius=options.radius,
                    seed=options.seed, window=options.window, rest=options.rest, interval=options.interval,
                    validation=options.validation, unit=options.unit, length=self._length, every=self._every)

    def _record_iteration(self, runner: Runner) -> None:
        if self.options.unit == 'iter':
            self._record(runner.iter)

    def _record(self, position: int) -> None:
        """Keeps the present importance, if it is due: that which an iteration uses, or with which an epoch ends."""
        assert self.search is not None
        if position % self._every == 0 or position == self._length - 1:
            self.run.course.note(IMPORTANCE, position, self.search.distiller.importance.value.tolist())
