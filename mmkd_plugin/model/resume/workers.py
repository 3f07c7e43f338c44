"""The random generators of loader workers that live on between epochs (``persistent_workers=True``).

mmengine seeds the workers when they start. Those that live on draw on and on; a resumed run starts new ones, and they have
to begin where the old ones were. So every worker notes its states after each batch, in memory it shares with the main
process.
Workers that are started anew for each epoch need none of this.
"""
import logging
from typing import Any, Callable, Dict, Mapping, Optional

import torch
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from ...utils.isolation import pack_rng_state, set_rng_state, unpack_rng_state


def persistent_loaders(runner: Runner) -> Dict[str, 'DataLoader[Any]']:
    """The loaders (``'train'``, ``'val'``) whose workers live on and have not been started yet.

    Those of training in an iteration-based loop are left out: a resumed loop has them fetch all batches again, by which
    they come to where they were. (OpenMMLab's has started them by now, OneDL's has not.)
    """
    loops = dict(train=runner.train_loop, val=runner.val_loop)
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        del loops['train']
    loaders = {name: getattr(loop, 'dataloader', None) for name, loop in loops.items()}
    return {name: loader for name, loader in loaders.items() if isinstance(loader, DataLoader)
            and loader.num_workers > 0 and loader.persistent_workers and loader._iterator is None}


class NotedWorkers:
    """Has the workers of a loader note the states of their generators; draws no random number.

    Args:
        loader: a loader whose workers live on, before they are started.
    """

    def __init__(self, loader: 'DataLoader[Any]'):
        self._loader = loader
        self._states = torch.zeros(loader.num_workers, len(pack_rng_state()), dtype=torch.long).share_memory_()
        self._begins = False
        loader.collate_fn = _Noting(loader.collate_fn, self._states)

    def states(self) -> Optional[Tensor]:
        """A row of whole numbers for each worker, zeros for one that has had no batch; None if nothing is known yet.

        Before they are started that is what they are to begin with: a checkpoint that is saved in between passes it on.
        """
        return self._states.clone() if self._begins or self._loader._iterator is not None else None

    def begin_with(self, states: Tensor, name: str) -> None:
        """Has the workers begin with these states.

        Args:
            states: what :meth:`states` has returned.
            name: which loader it is, for the log.
        """
        if len(states) != len(self._states):
            print_log(f'resume: {name}_dataloader has {len(self._states)} workers, it had {len(states)} when the checkpoint '
                      'was saved. Their random transforms begin anew: the run is not bit-equal to one that was not '
                      'interrupted.', 'current', level=logging.WARNING)
            return
        self._states.copy_(states)
        self._begins = True
        self._loader.worker_init_fn = _Beginning(self._loader.worker_init_fn, states)
        # What seeds new workers is drawn from the run's generator otherwise; workers that live on need it once only.
        self._loader.generator = torch.Generator()


class _Noting:
    """A ``collate_fn`` after which a worker notes its states: its batch has been fetched then."""

    def __init__(self, collate: Callable[..., Any], states: Tensor):
        self._collate, self._states = collate, states

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = self._collate(*args, **kwargs)
        worker = get_worker_info()
        if worker is not None:
            self._states[worker.id] = pack_rng_state()
        return batch


class _Beginning:
    """A ``worker_init_fn`` that puts a worker's generators where they were."""

    def __init__(self, begin: Optional[Callable[[int], None]], states: Tensor):
        self._begin, self._states = begin, states

    def __call__(self, worker: int) -> None:
        if self._begin is not None:
            self._begin(worker)
        if bool(self._states[worker].any()):
            set_rng_state(unpack_rng_state(self._states[worker]))


class LoaderWorkers:
    """The workers of a run's loaders."""

    def __init__(self, runner: Runner):
        self._noted = {name: NotedWorkers(loader) for name, loader in persistent_loaders(runner).items()}

    def states(self) -> Dict[str, Tensor]:
        """By loader, for a checkpoint."""
        states = {name: noted.states() for name, noted in self._noted.items()}
        return {name: value for name, value in states.items() if value is not None}

    def begin_with(self, saved: Mapping[str, Tensor]) -> None:
        """Has them begin where they were when a checkpoint was saved.

        Those of training have begun before any checkpoint; those of validation may begin after it.
        """
        for name, noted in self._noted.items():
            if name in saved:
                noted.begin_with(saved[name], name)
            elif name == 'train':
                print_log(f'resume: the checkpoint does not say where the workers of {name}_dataloader were. Their random '
                          'transforms begin anew: the run is not bit-equal to one that was not interrupted.', 'current',
                          level=logging.WARNING)
