"""Where the validation data of a search comes from: images that its training does not see."""
import copy
import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Mapping, Optional

from mmengine.logging import print_log

from ..utils.dataset_configs import is_innermost, rebuilt
from ..utils.errors import DistillationError, shortened

SPLIT_TYPES = ('mmkd.SplitDataset', 'SplitDataset')


def validation_loader(own: Optional[Dict[str, Any]], cfg: Mapping[str, Any], key: str) -> Dict[str, Any]:
    """The loader config of a search's validation data: its own, or that of :func:`validation_part`.

    Args:
        own: what the search was given under ``key``, or None.
        cfg: the run's config. A loader with the data set of the run's validation or test is taken with a warning.
        key: where ``own`` stands, for messages.

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
        raise DistillationError('has the data set of train_dataloader', path=key,
                                accepted='images that training does not see')
    return own


def validation_part(loader: Optional[Mapping[str, Any]], key: str) -> Dict[str, Any]:
    """The loader config for the validation part of a training set that ``loader`` takes the training part of.

    Args:
        loader: ``train_dataloader``, with ``type='mmkd.SplitDataset', part='train'`` around each of its data sets; wrappers
            around those (``RepeatDataset``, ``ConcatDataset``, ``MultiImageMixDataset``) stay.
        key: where a loader could be given instead, for messages.

    Raises:
        DistillationError: if the training set, or one of several, is not split: there is no validation data that training
            does not see.
    """
    def other_part(dataset: Any) -> Any:
        if isinstance(dataset, dict) and dataset.get('type') in SPLIT_TYPES and dataset.get('part') == 'train':
            return {**dataset, 'part': 'val'}
        raise DistillationError(
            'is missing: the search needs validation data that training does not see', path=key,
            accepted="a loader's config; or none, with train_dataloader.dataset=dict(type='mmkd.SplitDataset', "
            "part='train', dataset=...), whose other part is used")

    cfg = copy.deepcopy(dict(loader or {}))
    cfg['dataset'] = rebuilt(cfg.get('dataset'), other_part, lambda one: is_innermost(one) or one.get('type') in SPLIT_TYPES)
    return cfg


@contextmanager
def naming_samples(key: str) -> Iterator[None]:
    """What a model raises on validation samples that are made for another one is an error of their loader.

    Args:
        key: the search's hook.

    Raises:
        DistillationError: in place of it; its cause stays with it.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError) as error:
        raise DistillationError(f'gives samples that the model cannot be trained on ({type(error).__name__}: '
                                f'{shortened(str(error))})', path=f'{key}.dataloader',
                                accepted='images with ground truth, as train_dataloader has them') from error
