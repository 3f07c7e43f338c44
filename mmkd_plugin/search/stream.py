"""An endless stream of batches in which every batch is a function of its number: for searches that must resume exactly."""
import copy
import random
from itertools import chain, count
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from ..utils.dataset_configs import LOADER
from ..utils.errors import DistillationError, building
from ..utils.isolation import preserved_rng


class BatchStream:
    """The batches of a loader config, pass after pass, each a function of its number: ``next(stream)``.

    Order comes from the config's own sampler (and batch sampler). Random transforms draw from generators that are seeded
    for each item with the stream's seed, the rank and the item's place in the stream, so neither the number of workers nor
    where a run was interrupted makes a difference. Nothing is drawn from the run's generators, and workers live on.

    Args:
        cfg: a loader's config, as ``val_dataloader`` has it. ``drop_last`` is True unless given: batch statistics want whole
            batches.
        seed: decides the order of the items and what their transforms draw.
        key: the config key it stands under, for messages.
        start: number of the first batch, from 0; no item before it is loaded.

    Raises:
        DistillationError: if it has no whole batch.
    """

    def __init__(self, cfg: Dict[str, Any], seed: int, key: str, start: int = 0):
        cfg = copy.deepcopy(dict(cfg))
        if cfg.get('batch_sampler') is None:
            cfg.setdefault('drop_last', True)
        with preserved_rng():
            with building(key, LOADER):
                loader = Runner.build_dataloader(cfg, seed=seed)
            self._batches = self._from(loader, seed, _ItemsFrom(_index_lists(loader.batch_sampler, key), start))

    def __iter__(self) -> 'BatchStream':
        return self

    def __next__(self) -> Any:
        with preserved_rng():
            return next(self._batches)

    @staticmethod
    def _from(loader: 'DataLoader[Any]', seed: int, items: '_ItemsFrom') -> Iterator[Any]:
        workers: Dict[str, Any] = dict(num_workers=loader.num_workers, worker_init_fn=loader.worker_init_fn)
        if loader.num_workers:
            workers.update(prefetch_factor=loader.prefetch_factor, multiprocessing_context=loader.multiprocessing_context)
        seeded = _SeededItems(loader.dataset, seed * 1000 + get_rank())
        return iter(DataLoader(seeded, batch_sampler=items, collate_fn=loader.collate_fn, pin_memory=loader.pin_memory,
                               generator=torch.Generator(), **workers))


def _index_lists(batch_sampler: Any, key: str) -> Iterator[List[int]]:
    """The indices of every batch, pass after pass."""
    for epoch in count():
        sampler = getattr(batch_sampler, 'sampler', batch_sampler)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        empty = True
        with building(key):
            batches = iter(batch_sampler)
            first = next(batches, None)
        for indices in chain([] if first is None else [first], batches):
            empty = False
            yield list(indices)
        if empty:
            raise DistillationError('the data set has no whole batch', path=key, accepted='a batch size up to the number of '
                                    'its images (on each rank), or drop_last=False')


class _ItemsFrom:
    """A batch sampler of (index, place in the stream), from batch ``start`` on; no item before it is loaded."""

    def __init__(self, lists: Iterator[List[int]], start: int):
        self._lists, self._start = lists, start

    def __iter__(self) -> Iterator[List[Tuple[int, int]]]:
        place = 0
        for number, indices in enumerate(self._lists):
            if number >= self._start:
                yield [(index, place + offset) for offset, index in enumerate(indices)]
            place += len(indices)


class _SeededItems(Dataset[Any]):
    """Items whose transforms draw from generators seeded for their place in the stream (which preserves the run's)."""

    def __init__(self, dataset: Any, seed: int):
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, item: Tuple[int, int]) -> Any:
        index, place = item
        seed_generators(self._seed, place)
        return self._dataset[index]


def seed_generators(*numbers: int) -> None:
    """Seeds Python's, numpy's and torch's global generators with a function of the numbers. Use inside `preserved_rng`."""
    seed = int(np.random.SeedSequence([abs(number) for number in numbers]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (mm transforms draw from it)
    torch.manual_seed(seed)
