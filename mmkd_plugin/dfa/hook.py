"""``mmkd.AggregationSearchHook``: the search of DFA's aggregation weights on the ordinary training loop."""
import copy
import logging
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ..core.errors import DistillationError, check_arguments, check_flag, check_number
from ..core.gradients import reentrant_checkpoints_refused
from ..core.isolation import preserved_buffers, preserved_rng
from ..core.provenance import provenance
from ..core.runner import StatefulHook, check_settings, distillation_of, unwrap
from ..core.stream import BatchStream, seed_generators, validation_loader
from ..registry import HOOKS
from .bilevel import virtual_steps
from .bridge import BALANCE_RANGE
from .distiller import FeatureAggregationDistiller
from .phases import Phase, beta_steps_before, phase_at, phases_of
from .result import write_aggregation
from .search import AggregationSearch, PathLosses

KEY = 'AggregationSearchHook'
OPTIMIZER = dict(type='Adam', lr=3e-3, betas=(0.5, 0.999))
COURSE_POINTS = 100
LOWEST, HIGHEST = BALANCE_RANGE


@HOOKS.register_module()
class AggregationSearchHook(StatefulHook):
    """Searches one group after the other; in each iteration first beta on validation, then the weights on training data.

    The step of the weights is the run's own. That of beta comes before it and leaves weights, buffers, the run's optimiser
    and its random numbers as they are. At the end the aggregation weights are written to a file for ``mode='distill'``. The
    state lies in the checkpoint, so a resumed search is the uninterrupted one.

    Args:
        dataloader: config of the validation loader. By default ``train_dataloader`` with the other part of its
            ``mmkd.SplitDataset``.
        iterations: I_s of every group, or a list for the groups with more than one layer; by default the run in equal parts.
        optimizer: of beta; each group has a new one. lr * I_s should be 2 to 10: Adam moves each beta by at most lr a step.
        regularisation: lambda; ``lambda / 2 * |beta|^2`` is added to the loss of beta.
        weights_first: fraction of each group's iterations that train weights only.
        unrolled: whether the gradient of beta is taken at the weights of the next training step (second order). That step is
            SGD's, momentum included, without clipping; batches in which ``gamma_st='auto'`` is measured are first order.
        out: where the result goes, in the work dir.
        seed: of the order and the augmentation of validation data, and of dropout in the step of beta.

    Raises:
        DistillationError: for a wrong value; when training starts, if there is no validation data, no searching distiller,
            the run has not as many iterations as the groups, or a search is resumed with other settings.
    """
    priority = 'NORMAL'  # before checkpoints are saved
    state_key = 'aggregation_search'

    def __init__(self, dataloader: Optional[dict] = None, iterations: Union[int, Sequence[int], None] = None,
                 optimizer: Optional[dict] = None, regularisation: float = 1e-3, weights_first: float = 0.0,
                 unrolled: bool = False, out: str = 'aggregation.json', seed: int = 0, **others):
        check_arguments(KEY, others, AggregationSearchHook)
        check_number(f'{KEY}.regularisation', regularisation, least=0)
        check_number(f'{KEY}.weights_first', weights_first, least=0)
        check_number(f'{KEY}.seed', seed, least=0, whole=True)
        check_flag(f'{KEY}.unrolled', unrolled)
        if weights_first >= 1:
            raise DistillationError(f'{KEY}.weights_first: {weights_first!r}. Accepted: a fraction, 0 <= fraction < 1.')
        if dataloader is not None and not isinstance(dataloader, dict):
            raise DistillationError(f'{KEY}.dataloader: {dataloader!r}. Accepted: a dataloader config, or None.')
        if not isinstance(out, str) or not out:
            raise DistillationError(f"{KEY}.out: {out!r}. Accepted: the name of a file, e.g. 'aggregation.json'.")
        if optimizer is not None and (not isinstance(optimizer, dict) or not isinstance(optimizer.get('type'), str)):
            raise DistillationError(f"{KEY}.optimizer: {optimizer!r}. Accepted: a config, e.g. dict(type='Adam', lr=3e-3).")
        self.dataloader_cfg, self.iterations, self.out, self.seed = dataloader, iterations, out, seed
        self.optimizer, self.regularisation = optimizer or OPTIMIZER, regularisation
        self.weights_first, self.unrolled = weights_first, unrolled
        self._name = ''
        self._phases: List[Phase] = []
        self._search: Optional[AggregationSearch] = None
        self._saved: Optional[dict] = None
        self._settings: Dict[str, Any] = {}
        self._meta: Dict[str, Any] = {}
        self._stream: Optional[BatchStream] = None

    def before_train(self, runner: Runner) -> None:
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise DistillationError(f'{KEY}: the run has several optimisers (optim_wrapper). Accepted: one.')
        self._name, distiller = _searching(runner)
        self._search = distiller.start_search(self.optimizer, self.regularisation)
        names = {index: group.name for index, group in enumerate(distiller.groups) if group.searched}
        self._phases = phases_of(names, runner.max_iters, self.iterations, self.weights_first)
        self._settings = dict(
            self._how(runner), phases=[[phase.group, phase.begin, phase.end, phase.beta_begin] for phase in self._phases])
        self._meta = provenance(runner)
        if self._saved is not None:
            check_settings(self._saved['settings'], self._settings)
            self._search.load(self._saved)
            self._meta['date'] = self._saved['date']
        key = f'{KEY}.dataloader'
        loader = validation_loader(self.dataloader_cfg, runner.cfg, key)
        self._stream = BatchStream(loader, self.seed, key, start=beta_steps_before(self._phases, runner.iter))
        print_log(f'search of {len(names)} groups: ' + ', '.join(
            f'{names[phase.group]} in iterations {phase.begin + 1} to {phase.end}' for phase in self._phases),
            logger=runner.logger)

    def state_dict(self) -> dict:
        return dict(self._search.state(), settings=self._settings, date=self._meta['date'])

    def load_state_dict(self, state: dict) -> None:
        self._saved = state

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        phase = phase_at(self._phases, runner.iter)
        self._search.enter(phase.group)
        if runner.iter == phase.begin:
            self._search.note(runner.iter)
        if runner.iter < phase.beta_begin:
            return
        self._search.step(self._gradient(runner, unwrap(runner.model), data_batch))

    def _gradient(self, runner: Runner, model, data_batch) -> Optional[torch.Tensor]:
        wrapper, scale = runner.optim_wrapper, None
        if hasattr(wrapper, 'loss_scaler'):
            scale = wrapper.loss_scaler.scale(torch.ones((), device=next(model.parameters()).device))
        with preserved_rng(), preserved_buffers(model):
            seed_generators(self.seed, runner.iter)
            validation = model.data_preprocessor(next(self._stream), True)
            train = None
            if self.unrolled:
                # Some preprocessors pad the ground truth in place; the run's own step has it still before it.
                training = model.data_preprocessor(copy.deepcopy(data_batch), True)
                train = partial(self._losses, runner, model, training)
            with reentrant_checkpoints_refused('Switch it off for the search.'):
                return self._search.gradient(partial(self._losses, runner, model, validation), train,
                                             lambda: virtual_steps(wrapper.optimizer), scale)

    def _losses(self, runner: Runner, model, data) -> PathLosses:
        seed_generators(self.seed, runner.iter)  # forwards whose difference is taken drop the same
        with runner.optim_wrapper.optim_context(runner.model):
            losses = model._run_forward(data, mode='loss')
        st = losses.pop(f'{self._name}.loss_st')
        return PathLosses(ts=model.parse_losses(losses)[0], st=st)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        phase, done = phase_at(self._phases, runner.iter), runner.iter + 1
        if done == phase.end or (done - phase.begin) % max(1, (phase.end - phase.begin) // COURSE_POINTS) == 0:
            self._search.note(done)
        self._log(runner)
        if done == phase.end:
            self._report(runner)

    def _log(self, runner: Runner) -> None:
        group, gammas = self._search.group, self._search.gammas
        for number, weight in enumerate(group.weights(), 1):
            runner.message_hub.update_scalar(f'train/{self._name}.{group.name}.{number}', weight)
        if gammas.auto:
            runner.message_hub.update_scalar(f'train/{self._name}.gamma_st', gammas.st)

    def _report(self, runner: Runner) -> None:
        group, gammas = self._search.group, self._search.gammas
        weights = ' '.join(f'{weight:.3f}' for weight in group.weights())
        print_log(f'search of {group.name} done: weights {weights} (shallow to deep), gamma_st {gammas.st:.3g}, gamma_ts '
                  f'{gammas.ts:.3g}', logger=runner.logger)
        if gammas.at_bound:
            print_log(f"search of {group.name}: gamma_st='auto' stopped at {gammas.st:.3g}, the end of its range "
                      f'({LOWEST:g} to {HIGHEST:g} times gamma_ts), after {gammas.batches} batches: the two paths do not '
                      'pull equally hard. A number may go further.',
                      logger=runner.logger, level=logging.WARNING)

    def after_train(self, runner: Runner) -> None:
        self._stream = None  # and with it its workers
        if runner.iter < self._phases[-1].end:
            print_log(f'search: ended after {runner.iter} of {runner.max_iters} iterations; resume it to get {self.out}',
                      logger=runner.logger)
            return
        if not is_main_process():
            return
        path = Path(runner.work_dir) / self.out
        distillation = distillation_of(runner)
        teacher = distillation.teacher
        write_aggregation(
            path, distillation.distillers[self._name].result(),
            dict(model=type(teacher.model).__name__, sha256=teacher.identity.get('sha256')),
            dict(self._how(runner), gammas=self._search.used_gammas), self._meta, self._search.course)
        print_log(f'aggregation weights: {path}', logger=runner.logger)

    def _how(self, runner: Runner) -> Dict[str, Any]:
        options = distillation_of(runner).distillers[self._name].options
        return dict(iterations=runner.max_iters, order='unrolled' if self.unrolled else 'first', seed=self.seed,
                    regularisation=self.regularisation, weights_first=self.weights_first, optimizer=dict(self.optimizer),
                    **options)


def _searching(runner: Runner) -> Tuple[str, FeatureAggregationDistiller]:
    found = {name: distiller for name, distiller in distillation_of(runner).distillers.items()
             if isinstance(distiller, FeatureAggregationDistiller)}
    searching = {name: distiller for name, distiller in found.items() if distiller.mode == 'search'}
    if len(searching) > 1:
        raise DistillationError(f"{KEY}: the distillers {', '.join(searching)} are all in mode 'search'. Accepted: one.")
    if found:
        return next(iter((searching or found).items()))
    raise DistillationError(f"{KEY}: the model has no distiller of type 'mmkd.FeatureAggregationDistiller'")
