"""What the tools share: reading the config, the work dir, running without a GPU, and ending in one line."""
import argparse
import ast
import keyword
import os
import sys
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, Optional

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from ..registry import DATASETS, HOOKS, MODELS
from .config import load_config
from .errors import BUILD_ERRORS, LONGEST_NAME, DistillationError, shortened, shown, under
from .files import existing_file
from .mmrazor import PAGE, hint_for
from .options import SEED, Either, Flag, Number, read_known
from .overrides import parsed_options
from .type_names import unknown_type

DISTRIBUTED_WITHOUT_GPU = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
TIMEOUT = Either(Number(above=0), (None,))
"""Seconds after which a rank that waits for another gives up; None: torch's 30 minutes."""
LAUNCHERS = dict(
    none=(), pytorch=('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    mpi=('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'MASTER_ADDR'))
"""By launcher, what it tells each process through the environment."""


@contextmanager
def one_line_errors(code: int = 1) -> Iterator[None]:
    """What a user got wrong ends the process with one line, ``error: <key>: ...``, and that code."""
    try:
        yield
    except DistillationError as error:
        message = f'error: {" ".join(str(error).split())}'
        if code == 1:
            raise SystemExit(message) from None
        print(message, file=sys.stderr)
        raise SystemExit(code) from None


def read_config(args: argparse.Namespace, make: Optional[Callable[[Any], Any]] = None) -> Config:
    """The config of a run: file, then overrides, then what this machine needs. Makes the work dir.

    Args:
        args: the flags.
        make: what makes it; None: :func:`make_work_dir`.

    Raises:
        DistillationError: for a config that is not there, cannot be read or has no model, overrides that do not fit, a type
            of this package that does not exist, what :func:`check_environment` refuses, a launcher that has not started this
            process, or a work dir that cannot be written to.
    """
    _check_launcher(args.launcher)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, 'config')
    cfg.launcher = args.launcher
    changes = args.cfg_options
    override(cfg, parsed_options('--cfg-options', changes) if isinstance(changes, list) else changes, '--cfg-options')
    check_types(cfg._cfg_dict)
    _check_that_it_is_not_mmrazors(cfg.get('model'))
    check_text(cfg._cfg_dict)
    check_environment(cfg)
    if not isinstance(cfg.get('model'), Mapping):
        raise DistillationError(path='model', given=cfg.get('model'), accepted='a dict',
                                hint=f'{args.config} is the config of no run.' if 'model' not in cfg else '')
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    (make or make_work_dir)(cfg.work_dir)
    if not torch.cuda.is_available():
        prepare_for_cpu(cfg)
    return cfg


def _check_launcher(launcher: str) -> None:
    missing = [name for name in LAUNCHERS[launcher] if name not in os.environ]
    if missing:
        raise DistillationError(f'has not started this process: {", ".join(missing)} is not in the environment',
                                path='--launcher', given=launcher, accepted='none, for a process that you start yourself',
                                hint='tools/dist_train.sh and tools/slurm_train.sh start several.')


def override(cfg: Config, changes: Optional[Mapping[str, Any]], flag: str) -> None:
    """Puts overrides into a config, by dotted keys.

    Args:
        cfg: the config; it is changed.
        changes: values by key, None for none.
        flag: the flag that they come from, for messages.

    Raises:
        DistillationError: for a key that does not fit the config: below a text or a number, or beyond the end of a list.
    """
    if not changes:
        return
    before = cfg.copy()
    try:
        cfg.merge_from_dict(dict(changes))  # at once: _delete_ concerns those beside it
    except BUILD_ERRORS as error:
        wrong = [key for key in changes if not _can_be_merged(before.copy(), key, changes[key])] or list(changes)
        raise DistillationError(f'does not fit the config ({shortened(str(error))})', path=flag,
                                given=f'{wrong[0]}={changes[wrong[0]]}',
                                accepted='keys of its dicts, and numbers below the length of its lists',
                                hint=_how_to_replace(before, wrong[0])) from None


def _how_to_replace(cfg: Config, key: str) -> str:
    """What to write where an override is a key of a key that has no dict; '' where that is not so."""
    node: Any = cfg._cfg_dict
    parts = key.split('.')
    for number, part in enumerate(parts[:-1], 1):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
            if not isinstance(node, (dict, list)):
                above = '.'.join(parts[:number])
                return (f'{above} is {shown(node, LONGEST_NAME)} there; {above}._delete_=True beside it puts a dict in its '
                        'place.')
        else:
            break
    return ''


def _can_be_merged(cfg: Config, key: str, value: Any) -> bool:
    try:
        cfg.merge_from_dict({key: value})
    except BUILD_ERRORS:
        return False
    return True


def make_work_dir(folder: Any, key: str = 'work_dir') -> Path:
    """Makes a run's work dir, and sees that files can be written there: before work starts, not when the first is due.

    Args:
        folder: its path.
        key: where it stands in the config, for messages.

    Raises:
        DistillationError: if it is no path, is a file or lies below one, or cannot be written to.
    """
    accepted = 'a folder that can be made and written to'
    if not isinstance(folder, (str, os.PathLike)) or not str(folder) or '\0' in str(folder):
        raise DistillationError(path=key, given=folder, accepted=accepted)
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = f'{type(error).__name__}: {error.strerror}'
        raise DistillationError(f'cannot be made or written to ({reason})', path=key, given=str(folder),
                                accepted=accepted) from error
    return path


def check_file_place(file: Path, key: str) -> None:
    """Sees that a file can be written, before the work that makes its content; makes its folder.

    Args:
        file: its path.
        key: where it stands, for messages.

    Raises:
        DistillationError: for a folder, a device, no name of a file, or a place that cannot be written to.
    """
    make_work_dir(file.parent, key)
    try:
        if file.exists() and not file.is_file():
            raise DistillationError('is no regular file', path=key, given=str(file), accepted='a file that can be written')
        new = not file.exists()
        with file.open('ab'):
            pass
        if new:
            file.unlink()
    except (OSError, ValueError) as error:
        if isinstance(error, DistillationError):
            raise
        raise DistillationError(f'cannot be written ({error})', path=key, given=str(file),
                                accepted='a file that can be written') from None


def check_types(node: Any, key: str = '') -> None:
    """Raises :class:`DistillationError` for a ``type='mmkd.Name'`` below ``node`` that is not registered.

    The registries would raise too, a KeyError that names neither the key nor what is near.
    """
    if isinstance(node, dict):
        kind = node.get('type')
        if isinstance(kind, str) and kind.startswith('mmkd.'):
            known = [f'mmkd.{name}' for registry in (MODELS, HOOKS, DATASETS) for name in registry.module_dict]
            if kind not in known:
                raise unknown_type(f'{key}type', kind, _fitting(key, known))
        for name, value in node.items():
            check_types(value, f'{key}{name}.')
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            check_types(value, f'{key[:-1]}[{number}].')


def _fitting(key: str, known: List[str]) -> List[str]:
    """Of the known types those that may stand under a key."""
    if '.distillers.' in key:
        return [name for name in known if name.endswith('Distiller')]
    for place, registry in (('custom_hooks', HOOKS), ('dataset.', DATASETS)):
        if place in key:
            return [f'mmkd.{name}' for name in registry.module_dict]
    return known


def _check_that_it_is_not_mmrazors(model: Any) -> None:
    """Raises :class:`DistillationError` for an algorithm of mmrazor that is not installed."""
    kind, scope = (model.get(key) if isinstance(model, Mapping) else None for key in ('type', '_scope_'))
    if (scope == 'mmrazor' or str(kind).startswith('mmrazor.')) and find_spec('mmrazor') is None:
        raise DistillationError('is of mmrazor, which is not installed', path='model.type', given=kind,
                                hint=hint_for(kind) or f'What its blocks are here: {PAGE}.')


def check_text(node: Any, key: str = '') -> None:
    """Raises :class:`DistillationError` for what has no place in a config's text, which mmengine writes into the work dir.

    That is a value whose text is not Python (an array), or a key with quotes or line ends, or that means something (None).
    """
    if isinstance(node, dict):
        words = all(str(name).isidentifier() for name in node)  # then it is written as dict(name=...)
        for name, value in node.items():
            if words and keyword.iskeyword(str(name)) or (isinstance(name, str) and not name.isidentifier()
                                                and not _is_python(f"'{name}'")):
                raise DistillationError(f'has the key {name!r}', path=key[:-1],
                                        accepted='keys without quotes and line ends that are no words of Python')
            check_text(value, f'{key}{name}.')
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            check_text(value, f'{key[:-1]}[{number}].')
    elif not isinstance(node, (str, int, float, type(None))) and not callable(node) and not _is_python(str(node)):
        raise DistillationError(path=key[:-1], given=node,
                                accepted='numbers, text, True, False, None, lists and dicts of them')


def _is_python(text: str) -> bool:
    try:
        ast.parse(text, mode='eval')
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def check_environment(cfg: Mapping[str, Any]) -> None:
    """Looks at what a Runner sets up before anything of ours is asked: seed, resuming, how long ranks wait for each other.

    Args:
        cfg: the whole config.

    Raises:
        DistillationError: for a seed that is no number, which would be another one in every process, a timeout that is
            none, or ``resume`` that is neither True nor False; the path is the key.
    """
    with under('resume'):
        Either(Flag(), (None,)).read(cfg.get('resume'))
    randomness = _block(cfg, 'randomness')
    if cfg.get('randomness') is not None and 'seed' not in randomness:
        raise DistillationError('is missing', path='randomness.seed', accepted=Either(SEED, (None,)).accepted)
    with under('randomness'):
        read = read_known(randomness, dict(seed=Either(SEED, (None,)), deterministic=Flag(), diff_rank_seed=Flag()))
    if isinstance(randomness, dict):
        randomness.update(read)  # Python's generator takes no number of numpy
    distributed = _block(_block(cfg, 'env_cfg'), 'dist_cfg', 'env_cfg.')
    with under('env_cfg.dist_cfg.timeout'):
        TIMEOUT.read(distributed.get('timeout'))


def check_load_from(cfg: Mapping[str, Any]) -> None:
    """Looks for the weights that a run begins with.

    Args:
        cfg: the whole config.

    Raises:
        DistillationError: if they are no file. What is resumed from or has to be fetched is not looked at, nor the runs of
            other runners than mmengine's ``Runner``, which may load folders.
    """
    if cfg.get('load_from') is not None and not cfg.get('resume') and not cfg.get('runner_type'):
        existing_file(cfg['load_from'], 'load_from')


def _block(cfg: Mapping[str, Any], key: str, above: str = '') -> Mapping[str, Any]:
    block = cfg.get(key)
    if block is not None and not isinstance(block, Mapping):
        raise DistillationError(path=f'{above}{key}', given=block, accepted='a dict')
    return block or {}


def prepare_for_cpu(cfg: Config) -> None:
    """Turns SyncBN into BN, with one notice, and lets several processes talk over gloo.

    A rank that waits for another gives up after ``env_cfg.dist_cfg.timeout`` seconds, as mmengine has it for its backends.
    """
    if replace_sync_bn(cfg._cfg_dict):
        print_log('no GPU: every SyncBN of the config is BN in this run')
    if cfg.launcher == 'pytorch' and not torch.distributed.is_initialized():
        # mmengine's launcher would select a CUDA device
        seconds = _block(_block(cfg, 'env_cfg'), 'dist_cfg').get('timeout')
        torch.distributed.init_process_group('gloo', timeout=None if seconds is None else timedelta(seconds=seconds))
        cfg.setdefault('model_wrapper_cfg', DISTRIBUTED_WITHOUT_GPU)


def replace_sync_bn(node: Any) -> int:
    """Renames the type SyncBN to BN everywhere below ``node``, in place. Returns how many there were."""
    if isinstance(node, dict):
        found = 0
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
            found = 1
        return found + sum(replace_sync_bn(value) for value in node.values())
    if isinstance(node, (list, tuple)):
        return sum(replace_sync_bn(value) for value in node)
    return 0
