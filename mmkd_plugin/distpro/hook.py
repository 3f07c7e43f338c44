"""``mmkd.ProcessSearchHook``: searches a process during an ordinary training run and writes it to a file."""
import functools
import logging
from numbers import Real
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from ..core.errors import DistillationError, check_arguments, check_number, unknown_name
from ..core.provenance import provenance
from ..core.runner import StatefulHook, check_settings, distillation_of, unwrap
from ..core.stream import BatchStream, validation_loader
from ..registry import HOOKS
from .distiller import DistProDistiller
from .process import UNITS, Process, choose_every, record_positions
from .search import HYPERGRADIENTS, ProcessSearch, Snapshot


@HOOKS.register_module()
class ProcessSearchHook(StatefulHook):
    """Moves the importance of the pathways after every training step, so that the step would have served validation better.

    The training step itself is the loop's own; the meta part adds a forward and a backward of the student on a validation
    batch and one forward-mode pass (or two passes, by finite differences) over the training batch, with the teacher's
    features of the step. It changes the importance and nothing else. With gradient accumulation it runs when the weights
    move. At the end ``<work_dir>/process.json`` is written; an interrupted search that is resumed writes the same file.

    Args:
        dataloader: config of the loader with the validation images, which training must not see. By default the other part
            of the ``mmkd.SplitDataset`` in ``train_dataloader``, otherwise loaded alike.
        lr, betas: of Adam on the importance; the paper's and the authors'.
        hypergradient: ``'exact'`` (forward mode; where an operation cannot, the other one, with a notice) or
            ``'finite_difference'`` (the paper's).
        radius: of the finite difference, eps = radius / ||v||.
        interval: a search step every so many iterations.
        unit: ``'iter'`` or ``'epoch'``: what the file counts: the importance with which an iteration begins, or an epoch
            ends.
        every: a record every so many units; by default as often as the file stays below 1 MB.
        out: name of the file, in the work dir.
        seed: of the order of the validation images and of what their transforms draw.

    Raises:
        DistillationError: for a wrong value; when training starts, for a model with nothing to search, a training set that
            is not split where no loader is given, several optimisers, no iteration at which it would act, or other settings
            than those of the checkpoint that is resumed.
    """
    priority = 'NORMAL'  # before logs are written and checkpoints saved
    state_key = 'process_search'

    def __init__(self, dataloader: Optional[dict] = None, lr: float = 0.05, betas: Sequence[float] = (0.5, 0.999),
                 hypergradient: str = 'exact', radius: float = 0.01, interval: int = 1, unit: str = 'iter',
                 every: Optional[int] = None, out: str = 'process.json', seed: int = 0, **others):
        check_arguments('ProcessSearchHook', others, ProcessSearchHook)
        for key, value, accepted in (('hypergradient', hypergradient, HYPERGRADIENTS), ('unit', unit, UNITS)):
            if not isinstance(value, str) or value not in accepted:
                raise unknown_name(f'ProcessSearchHook.{key}', value, accepted)
        check_number('ProcessSearchHook.lr', lr, least=0)
        check_number('ProcessSearchHook.radius', radius, above=0)
        check_number('ProcessSearchHook.interval', interval, above=0, whole=True)
        check_number('ProcessSearchHook.seed', seed, least=0, whole=True)
        if every is not None:
            check_number('ProcessSearchHook.every', every, above=0, whole=True)
        if not isinstance(betas, (list, tuple)) or len(betas) != 2 or not all(
                isinstance(beta, Real) and 0 <= beta < 1 for beta in betas):
            raise DistillationError(f'ProcessSearchHook.betas: {betas!r}. Accepted: two numbers in [0, 1).')
        if dataloader is not None and not isinstance(dataloader, dict):
            raise DistillationError(f"ProcessSearchHook.dataloader: {dataloader!r}. Accepted: a loader's config, or None.")
        self.dataloader_cfg, self.seed = dataloader, seed
        self.search_options = dict(lr=lr, betas=betas, hypergradient=hypergradient, radius=radius, seed=seed)
        self.interval, self.unit, self.every, self.out = interval, unit, every, out
        self.search: Optional[ProcessSearch] = None
        self.records: List[Tensor] = []
        self._meta: Dict[str, Any] = {}
        self._saved: Optional[dict] = None
        self._stream: Optional[BatchStream] = None
        self._before: Optional[Snapshot] = None

    def before_train(self, runner: Runner) -> None:
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise DistillationError('ProcessSearchHook: the run has several optimisers. Accepted: one.')
        distiller = _searching(runner)
        distiller.is_searched = True
        self.search = ProcessSearch(unwrap(runner.model), distiller, **self.search_options)
        if self.unit == 'epoch' and not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise DistillationError("ProcessSearchHook.unit: 'epoch', but the run counts iterations. Accepted: 'iter'.")
        self._length = runner.max_epochs if self.unit == 'epoch' else runner.max_iters
        self._every = self.every or choose_every(self._length, len(distiller.pathways))
        if not any(map(distiller.weight_at, range(self.interval - 1, runner.max_iters, self.interval))):
            raise DistillationError(
                f'ProcessSearchHook.interval: {self.interval}. In {runner.max_iters} iterations no search step falls where '
                f'model.distillers.{distiller.name} acts (loss_weight, begin, end).')
        self._meta = provenance(runner)
        if self._saved is not None:
            self._resume(self._saved)
        key = 'ProcessSearchHook.dataloader'
        cfg = validation_loader(self.dataloader_cfg, runner.cfg, key)
        self._stream = BatchStream(cfg, self.seed, key, start=self.search.steps)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if self.unit == 'iter':
            self._record(runner.iter)
        moves = runner.optim_wrapper.should_sync()  # whether the step that comes moves the weights
        acts = self.search.distiller.weight_at(runner.iter) > 0
        due = moves and acts and (runner.iter + 1) % self.interval == 0
        distillation_of(runner).keeps_forward = due
        self.search.distiller.keeps_gradients = due and self.search.hypergradient == 'exact'
        self._before = self.search.snapshot(runner.optim_wrapper.optimizer) if due else None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._before is None:
            return
        model, scaler = unwrap(runner.model), getattr(runner.optim_wrapper, 'loss_scaler', None)
        before, self._before = self._before, None
        self.search.step(before, model.distillation.take_forward(), next(self._stream),
                         functools.partial(runner.optim_wrapper.optim_context, model),
                         1.0 if scaler is None else scaler.get_scale(), runner.iter)
        distiller = self.search.distiller
        for index, weight in distiller.weights(runner.iter).items():
            runner.message_hub.update_scalar(f'train/{distiller.name}.{distiller.pathway_names[index]}', weight)
        if self.search.skipped:
            runner.message_hub.update_scalar(f'train/{distiller.name}.skipped', self.search.skipped)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.unit == 'epoch':
            self._record(runner.epoch)

    def after_train(self, runner: Runner) -> None:
        self._stream = None  # and with it its workers
        if len(self.records) < len(record_positions(self._length, self._every)):
            print_log(f'search: ended after {runner.iter} of {runner.max_iters} iterations; resume it to get {self.out}',
                      'current')
            return
        if is_main_process():
            path = Path(runner.work_dir) / self.out
            self.process().write(path)
            print_log(f'search: {self.search.steps} steps, {self.search.skipped} skipped; wrote {path}', 'current')
        if self.search.skipped == self.search.steps:
            print_log('search: every step was skipped, and the weights are those it began with: the gradient of the '
                      'validation loss was 0 or not finite', 'current', level=logging.WARNING)

    def process(self) -> Process:
        """The recorded process."""
        distiller = self.search.distiller
        return Process(distiller.pathways, distiller.normalisation, distiller.bias, distiller.tau,
                       torch.stack(self.records).double(), self._length, self._every, self.unit, self._meta)

    def state_dict(self) -> dict:
        records = torch.stack(self.records) if self.records else torch.empty(0)
        return dict(search=self.search.state_dict(), records=records, settings=self._settings(), date=self._meta['date'])

    def load_state_dict(self, state: dict) -> None:
        self._saved = state

    def _settings(self) -> Dict[str, Any]:
        """What must be the same when the search is resumed; without it the file's records would not belong together."""
        options = {**self.search_options, 'betas': list(self.search_options['betas'])}
        return dict(options, interval=self.interval, unit=self.unit, length=self._length, every=self._every)

    def _resume(self, state: dict) -> None:
        check_settings(state['settings'], self._settings())
        self.search.load_state_dict(state['search'])
        self.records = list(state['records'].cpu())
        self._meta['date'] = state['date']

    def _record(self, position: int) -> None:
        """Keeps the present importance, if it is due: that with which an iteration begins, or an epoch ends."""
        if position % self._every == 0 or position == self._length - 1:
            self.records.append(self.search.distiller.importance.detach().cpu().clone())


def _searching(runner: Runner) -> DistProDistiller:
    found = [distiller for distiller in distillation_of(runner).distillers.values()
             if isinstance(distiller, DistProDistiller) and distiller.mode == 'search']
    if len(found) != 1:
        raise DistillationError(f'ProcessSearchHook: the model has {len(found)} distillers of type '
                                "'mmkd.DistProDistiller' in mode 'search'. Accepted: one.")
    return found[0]
