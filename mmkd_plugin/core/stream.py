"""An endless stream of batches in which every batch is a function of its number: for searches that must resume exactly."""
import copy
import logging
import random
from itertools import count
from typing import Any, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from .errors import DistillationError
from .isolation import preserved_rng

SPLIT_TYPES = ('mmkd.SplitDataset', 'SplitDataset')


class BatchStream:
    """The batches of a loader config, pass after pass, each a function of its number: ``next(stream)``.

    Order comes from the config's own sampler (and batch sampler). Random transforms draw from generators that are seeded
    for each item with the stream's seed, the rank and the item's place in the stream, so neither the number of workers nor
    where a run was interrupted makes a difference. Nothing is drawn from the run's generators, and workers live on.

    Args:
        cfg: of a loader, as ``val_dataloader`` has it. ``drop_last`` is True unless given: batch statistics want whole
            batches.
        seed: of order and transforms.
        key: the config key it stands under, for messages.
        start: number of the first batch, from 0; no item before it is loaded.

    Raises:
        DistillationError: if it has no whole batch.
    """

    def __init__(self, cfg: dict, seed: int, key: str, start: int = 0):
        cfg = copy.deepcopy(dict(cfg))
        if cfg.get('batch_sampler') is None:
            cfg.setdefault('drop_last', True)
        with preserved_rng():
            loader = Runner.build_dataloader(cfg, seed=seed)
            self._batches = self._from(loader, seed, _ItemsFrom(_index_lists(loader.batch_sampler, key), start))

    def __iter__(self) -> 'BatchStream':
        return self

    def __next__(self) -> Any:
        with preserved_rng():
            return next(self._batches)

    @staticmethod
    def _from(loader: DataLoader, seed: int, items: '_ItemsFrom') -> Iterator:
        workers = dict(num_workers=loader.num_workers, worker_init_fn=loader.worker_init_fn)
        if loader.num_workers:
            workers.update(prefetch_factor=loader.prefetch_factor, multiprocessing_context=loader.multiprocessing_context)
        seeded = _SeededItems(loader.dataset, seed * 1000 + get_rank())
        return iter(DataLoader(seeded, batch_sampler=items, collate_fn=loader.collate_fn, pin_memory=loader.pin_memory,
                               generator=torch.Generator(), **workers))


def _index_lists(batch_sampler, key: str) -> Iterator[List[int]]:
    """The indices of every batch, pass after pass."""
    for epoch in count():
        sampler = getattr(batch_sampler, 'sampler', batch_sampler)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        empty = True
        for indices in batch_sampler:
            empty = False
            yield list(indices)
        if empty:
            raise DistillationError(f'{key}: the data set has no whole batch. Accepted: a batch size up to the number of '
                                    'its images (on each rank), or drop_last=False.')


class _ItemsFrom:
    """A batch sampler of (index, place in the stream), from batch ``start`` on; no item before it is loaded."""

    def __init__(self, lists: Iterator[List[int]], start: int):
        self._lists, self._start = lists, start

    def __iter__(self):
        place = 0
        for number, indices in enumerate(self._lists):
            if number >= self._start:
                yield [(index, place + offset) for offset, index in enumerate(indices)]
            place += len(indices)


class _SeededItems(Dataset):
    """Items whose transforms draw from generators seeded for their place in the stream (which preserves the run's)."""

    def __init__(self, dataset: Dataset, seed: int):
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


def validation_loader(own: Optional[dict], cfg: Mapping[str, Any], key: str) -> dict:
    """The loader config of a search's validation data: its own, or that of :func:`validation_part`.

    Args:
        own: what the search was given under ``key``, or None.
        cfg: of the run. A loader with the data set of its validation or test is taken with a warning.

    Raises:
        DistillationError: if there is none, or it has the data set of the training.
    """
    if own is None:
        return validation_part(cfg.get('train_dataloader'), key)
    same = [name for name in ('train', 'val', 'test')
            if own.get('dataset') is not None and own['dataset'] == (cfg.get(f'{name}_dataloader') or {}).get('dataset')]
    if same and same[0] != 'train':
        print_log(f'{key}: has the data set of {same[0]}_dataloader. What is found is fitted to it, and results on it are '
                  'too good.', 'current', level=logging.WARNING)
    if same[:1] == ['train']:
        raise DistillationError(f'{key}: has the data set of train_dataloader. Accepted: images that training does not see.')
    return own


def validation_part(loader: Optional[dict], key: str) -> dict:
    """The loader config for the validation part of a training set that ``loader`` takes the training part of.

    Args:
        loader: ``train_dataloader``, with ``type='mmkd.SplitDataset', part='train'`` around each of its data sets; wrappers
            around those (``RepeatDataset``, ``ConcatDataset``, ``MultiImageMixDataset``) stay.
        key: where a loader could be given instead, for messages.

    Raises:
        DistillationError: if the training set, or one of several, is not split: there is no validation data that training
            does not see.
    """
    cfg = copy.deepcopy(dict(loader or {}))
    cfg['dataset'] = _other_part(cfg.get('dataset'), key)
    return cfg


def _other_part(dataset: Any, key: str) -> Any:
    """The config of a data set with the validation part in place of every training part, inside the same wrappers."""
    if isinstance(dataset, (list, tuple)):
        return [_other_part(part, key) for part in dataset]
    if isinstance(dataset, dict):
        if dataset.get('type') in SPLIT_TYPES and dataset.get('part') == 'train':
            return {**dataset, 'part': 'val'}
        wrapped = [name for name in ('dataset', 'datasets') if name in dataset]
        if wrapped and dataset.get('type') not in SPLIT_TYPES:
            return {**dataset, **{name: _other_part(dataset[name], key) for name in wrapped}}
    raise DistillationError(f"{key}: the search needs validation data that training does not see. Accepted: a loader's "
                            "config; or none, with train_dataloader.dataset=dict(type='mmkd.SplitDataset', "
                            "part='train', dataset=...), whose other part is used.")
