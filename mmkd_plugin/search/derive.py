"""The config of a search, made from the config of the training that uses what it finds: one file for both.

A training whose distiller reads a searched result carries the search under a key of its own, ``search``, which the training
itself does not look at::

    search = dict(
        split=0.7,
        hook=dict(optimizer=dict(type='Adam', lr=2e-3)),
        config=dict(train_cfg=dict(max_epochs=40), param_scheduler=None))
"""
import inspect
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.runner import Runner

from ..distiller.build import registered
from ..registry import MODELS
from ..utils.dataset_configs import innermost, rebuilt
from ..utils.errors import DistillationError, check_known_keys, under
from ..utils.options import Block, Either, Number, Options, option
from ..utils.work_dirs import work_dir_of
from .parts import DECIDED, check_decided, check_parts
from .validation import SPLIT_TYPES, validation_part

FOLDER = 'search'
"""Of a search, in the work dir of the training it is for."""
DEFAULT_SPLIT = 0.8  # that of mmkd.SplitDataset
NEXT_BATCH = 'next_batch'
"""The option ``validation`` of a hook whose search is judged by training batches."""
ACCEPTED = "a dict with split, hook, distiller and config; an empty one searches with the training's own schedule"


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Options):
    """The key ``search`` of a config: what a search does differently from the training it is for."""
    split: Optional[float] = option(
        Either(Number(above=0, below=1), (None,)), DEFAULT_SPLIT, 'the part of the training set that trains the weights in '
        'the search; the rest validates. None: nothing is split, as the hook has a `dataloader`, or the training set is '
        "split already. With hook.validation='next_batch' nothing is split either")
    hook: Optional[Dict[str, Any]] = option(
        Either(Block('a dict: options of the search hook'), (None,)), None, 'options of the search hook, without its type')
    distiller: Optional[Dict[str, Any]] = option(
        Either(Block('a dict: options of the distiller'), (None,)), None, 'what is changed in the searched distiller')
    config: Optional[Dict[str, Any]] = option(
        Either(Block('a dict: keys of the whole config'), (None,)), None, 'what is changed in the rest, as in a config that '
        'inherits from this one: dicts are merged (`_delete_=True` replaces), all else replaces')

    def check(self, given: Sequence[str]) -> None:
        hook = self.hook or {}
        if 'type' in hook:
            raise DistillationError('follows from the type of the distiller', path='hook.type', given=hook['type'],
                                    accepted='the other options of the hook')
        if 'out' in hook:
            raise DistillationError('is where the training looks for the result', path='hook.out', given=hook['out'],
                                    accepted='the other options of the hook')
        for key, value in (self.config or {}).items():
            if key in DECIDED:
                raise DistillationError('is decided by the search', path=f'config.{key}', given=value, accepted=DECIDED[key])
        distiller = self.distiller or {}
        for key, said in (('type', 'is that of the training'), ('mode', "is 'search'")):
            if key in distiller and distiller != dict(distiller, mode='search'):
                raise DistillationError(said, path=f'distiller.{key}', given=distiller[key], accepted='the other options')
        if hook.get('validation') == NEXT_BATCH and self.split is not None and 'split' in given:
            raise DistillationError(f"has no meaning beside hook.validation='{NEXT_BATCH}', which needs no other images",
                                    path='split', given=self.split, accepted='None')
        if hook.get('dataloader') is not None and self.split is not None:
            raise about_split('has no meaning beside hook.dataloader, which gives the validation images', self.split,
                              'split' in given)


def about_split(problem: str, split: Optional[float], is_written: bool, accepted: str = 'None') -> DistillationError:
    """The error for a ``split`` that does not fit; where it is the default, that is said: nobody finds it in their config.

    Args:
        problem: what is wrong.
        split: its value.
        is_written: whether the config says it.
        accepted: what may stand there.
    """
    if is_written:
        return DistillationError(problem, path='split', given=split, accepted=accepted)
    return DistillationError(f'is not written, so it is {split}: {problem}', path='split', accepted=accepted)


def derive_search(cfg: Config) -> Config:
    """The config of the search that a training's config describes under ``search``.

    It trains the same model on a part of the training set, with the distiller in ``mode='search'`` and the distiller's
    search hook as the only custom hook (beside those of ``search.config``, and the updates of matchings). It does not
    validate: the student of a search is not to be used. It saves a checkpoint by the half of its length, unless
    ``search.config`` says how often, and works in the folder ``search`` of the training's work dir. It is a config like any
    other: written to a file, the upstream tools take it.

    Args:
        cfg: the training's config; it is not changed.

    Returns:
        The search's config, with the file name of ``cfg``.

    Raises:
        DistillationError: if there is no ``search``, something in it does not fit, or the model has no distiller that can be
            searched, or several.
    """
    content: Dict[str, Any] = cfg.to_dict()
    check_parts(content)
    with under('search'):
        given = content.pop('search', None)
        search = _read(given)
        _check_keys(search.config or {}, content)
        _check_form(search.config or {}, content, 'config')
        content = _merged(content, search.config, 'config')
        with under('config'):
            check_parts(content)
        _check_unit(content)
    name, kind = _searched(content)
    distillers = content['model']['distillers']
    without = kind.Options.without_meaning(mode='search')
    with under(f'model.distillers.{name}'):  # the training that follows needs them; a search leaves some out
        kind.Options.read({key: value for key, value in distillers[name].items() if key != 'type'})
    kept = {key: value for key, value in distillers[name].items() if key not in without}
    with under('search'):
        distillers[name] = dict(_merged(kept, search.distiller, 'distiller'), mode='search')
        _check_options(kind, distillers[name], search)
        _split(content, search, 'split' in given)
    hooks = (search.config or {}).get('custom_hooks') or []
    content['custom_hooks'] = [dict(type=kind.search_hook, **(search.hook or {})), *hooks,
                               *_updates(cfg.to_dict(), content, hooks)]
    content.update(val_cfg=None, val_dataloader=None, val_evaluator=None, work_dir=str(work_dir_of(cfg) / FOLDER))
    if 'checkpoint' not in ((search.config or {}).get('default_hooks') or {}):
        _save_halfway(content)
    _import_this_package(content)
    return Config(content, cfg_text=cfg.text, filename=cfg.filename)


def check_search(cfg: Config, derived: Config) -> None:
    """Looks at the config of a search that has been overridden.

    Args:
        cfg: the config with overrides.
        derived: what :func:`derive_search` returned.

    Raises:
        DistillationError: for a part of another kind, what the search decides, or options that its distiller or its hook
            does not take; the path is the key.
    """
    content = cfg.to_dict()
    check_parts(content)
    name, kind = _searched(derived.to_dict())
    check_decided(content, derived.to_dict(), name)
    hook = MMENGINE_HOOKS.get(kind.search_hook)
    for path, cls, block in ((f'model.distillers.{name}', kind, content['model']['distillers'][name]),
                             ('custom_hooks[0]', hook, content['custom_hooks'][0])):
        with under(path):
            cls.Options.read({key: value for key, value in block.items() if key != 'type'})


def reads_result(cfg: Config) -> bool:
    """Whether a training looks in its work dir for what its search finds.

    Args:
        cfg: the training's config.

    Raises:
        DistillationError: for a ``search`` beside a model in which nothing, or more than one distiller, can be searched, or
            options of that distiller that do not fit.
    """
    content: Dict[str, Any] = cfg.to_dict()
    if content.get('search') is None:
        return False
    check_parts(content)
    name, kind = _searched(content)
    with under(f'model.distillers.{name}'):
        options = kind.Options.read({key: value for key, value in content['model']['distillers'][name].items()
                                     if key != 'type'})
    key = getattr(kind, 'search_result', None)
    if key is None:
        return False
    return getattr(options, key) is None and key not in kind.Options.without_meaning(mode=options.mode)


def _read(given: Any) -> SearchConfig:
    if given is None:
        raise DistillationError('is missing: the config describes no search', accepted=ACCEPTED)
    if not isinstance(given, dict):
        raise DistillationError(given=given, accepted=ACCEPTED)
    return SearchConfig.read(given)


def _merged(content: Dict[str, Any], changes: Optional[Dict[str, Any]], key: str) -> Dict[str, Any]:
    cfg = Config(content)
    try:
        cfg.merge_from_dict(changes or {}, allow_list_keys=False)
    except TypeError as error:  # a dict where a list, a number or None was
        raise DistillationError(f'does not fit: {error}', path=key) from None
    merged: Dict[str, Any] = cfg.to_dict()
    return merged


def _check_keys(changes: Dict[str, Any], content: Dict[str, Any]) -> None:
    """Raises :class:`DistillationError` for a change of what neither the config nor the Runner knows."""
    known = dict.fromkeys([*content, *(name for name in inspect.signature(Runner).parameters if name != 'cfg')])
    check_known_keys('config', changes, known)


def _check_form(changes: Any, content: Any, path: str) -> None:
    """Raises :class:`DistillationError` for anything but a dict, or None, in place of a dict."""
    for key, value in changes.items():
        present = content.get(key)
        if isinstance(present, dict) and isinstance(value, dict) and not value.get('_delete_'):
            _check_form(value, present, f'{path}.{key}')
        elif isinstance(present, dict) and not isinstance(value, dict) and value is not None:
            raise DistillationError(path=f'{path}.{key}', given=value, accepted='a dict, as the training has there, or None')


def _check_unit(content: Dict[str, Any]) -> None:
    """Raises :class:`DistillationError` for a length in epochs where the training counts iterations, or the other way."""
    loop = content.get('train_cfg') or {}
    if 'max_epochs' in loop and 'max_iters' in loop:
        raise DistillationError('has two lengths: the training counts the other one', path='config.train_cfg', given=loop,
                                accepted='max_epochs or max_iters, as the training has it; or _delete_=True and a type')


def _check_options(kind: Any, distiller: Dict[str, Any], search: SearchConfig) -> None:
    """Raises :class:`DistillationError` for options that the search's distiller or its hook does not take."""
    with under('distiller'):
        kind.Options.read({key: value for key, value in distiller.items() if key != 'type'})
    with under('hook'):
        MMENGINE_HOOKS.get(kind.search_hook).Options.read(search.hook or {})


def _searched(content: Dict[str, Any]) -> Tuple[str, Any]:
    """Name and class of the distiller that can be searched. Raises :class:`DistillationError` unless there is just one."""
    distillers = (content.get('model') or {}).get('distillers') or {}
    kinds = {name: _class_of(block) for name, block in distillers.items()}
    # Of a process: what weighs them is searched.
    members = {str(member).partition('.')[0] for block in distillers.values() if isinstance(block, dict)
               and isinstance(block.get('members'), (list, tuple)) for member in block['members']}
    found = {name: kind for name, kind in kinds.items() if _can_be_searched(kind) and name not in members}
    if len(found) != 1:
        there = ', '.join(f'{name} ({block.get("type") if isinstance(block, dict) else block})'
                          for name, block in distillers.items()) or 'none'
        known = sorted(f'mmkd.{name}' for name, kind in MODELS.module_dict.items() if _can_be_searched(kind))
        raise DistillationError(f'has {len(found) or "none"} that can be searched. There are: {there}',
                                path='model.distillers', accepted=f'one of type {" or ".join(known)}')
    return next(iter(found.items()))


def _updates(training: Dict[str, Any], content: Dict[str, Any], hooks: Sequence[Any]) -> List[Dict[str, Any]]:
    """The hooks that update what distillers of the search have matched, but those of which it has its own.

    They are the training's, or those that the distillers would bring along; and they say which images they look at, since a
    search has no loader for validation that it could be taken from.
    """
    blocks = content['model']['distillers'].values()
    own = [hook.get('type') for hook in hooks]
    found = []
    for kind in dict.fromkeys(getattr(_class_of(block), 'update_hook', None) for block in blocks):
        if kind is None or kind in own:
            continue
        given = [hook for hook in training.get('custom_hooks') or () if hook.get('type') == kind]
        found += [MMENGINE_HOOKS.get(kind).with_images(hook, content)
                  for hook in given or [dict(type=kind, interval='auto')]]
    return found


def _class_of(block: Any) -> Any:
    kind = block.get('type') if isinstance(block, dict) else None
    return registered(kind) if isinstance(kind, str) else kind


def _can_be_searched(kind: Any) -> bool:
    return bool(getattr(kind, 'search_hook', None))


def _split(content: Dict[str, Any], search: SearchConfig, is_written: bool) -> None:
    """Puts the data set of the training into a ``mmkd.SplitDataset``; wrappers stay around it.

    Args:
        content: the config; it is changed.
        search: its key ``search``.
        is_written: whether that says ``split``.
    """
    loader = content.get('train_dataloader') or {}
    if (search.hook or {}).get('validation') == NEXT_BATCH:
        return
    if search.split is None:
        if (search.hook or {}).get('dataloader') is None:
            validation_part(loader, 'hook.dataloader')  # raises where training sees all images
        return
    if not isinstance(loader.get('dataset'), dict):
        raise about_split('finds no train_dataloader.dataset that could be split', search.split, is_written,
                          'None, with hook.dataloader for the validation images')
    if any(map(_is_split, innermost(loader['dataset'], _is_split))):
        raise about_split('train_dataloader.dataset is split already', search.split, is_written)
    ratio = {} if search.split == DEFAULT_SPLIT else dict(ratio=search.split)
    loader['dataset'] = rebuilt(loader['dataset'], lambda one: dict(type=SPLIT_TYPES[0], part='train', dataset=one, **ratio))


def _is_split(dataset: Any) -> bool:
    return isinstance(dataset, dict) and dataset.get('type') in SPLIT_TYPES


def _save_halfway(content: Dict[str, Any]) -> None:
    """Has a checkpoint saved by the half of the run: an interrupted search then has one to go on from.

    An interval that is longer than that becomes a quarter of the run.
    """
    checkpoint, loop = (content.get('default_hooks') or {}).get('checkpoint'), content.get('train_cfg') or {}
    if checkpoint is None:
        return
    length = loop.get('max_epochs' if checkpoint.get('by_epoch', True) else 'max_iters')
    interval = checkpoint.get('interval', -1)
    if not isinstance(length, int) or not isinstance(interval, (int, float)):
        return  # what is no number is refused by mmengine
    if length and not 0 < interval <= length / 2:
        checkpoint['interval'] = max(1, length // 4)


def _import_this_package(content: Dict[str, Any]) -> None:
    """Has the file import this package, also where the training's config leaves that to ``tools/train.py``."""
    package = __name__.partition('.')[0]
    imports = dict(content.get('custom_imports') or {})
    names = imports.get('imports') or []
    names = [names] if isinstance(names, str) else list(names)
    if package not in names:
        content['custom_imports'] = dict(imports, imports=[*names, package])
