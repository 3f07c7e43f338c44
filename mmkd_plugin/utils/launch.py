"""What ``tools/train.py`` and ``tools/test.py`` share: flags, reading the config, running without a GPU."""
import argparse
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import print_log

from ..registry import DATASETS, HOOKS, MODELS
from .errors import unknown_name

DISTRIBUTED_WITHOUT_GPU = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that train and test have in common, as upstream names them."""
    parser.add_argument('--work-dir', help='folder for logs and models; by default work_dirs/<config name>')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides, e.g. train_cfg.max_iters=100')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


def read_config(args: argparse.Namespace) -> Config:
    """The config of a run: file, then overrides, then what this machine needs.

    Raises:
        DistillationError: for a type of this package that does not exist.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    check_types(cfg._cfg_dict)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if not torch.cuda.is_available():
        prepare_for_cpu(cfg)
    return cfg


def check_types(node: Any, key: str = '') -> None:
    """Raises :class:`DistillationError` for a ``type='mmkd.Name'`` below ``node`` that is not registered.

    The registries would raise too, a KeyError that names neither the key nor what is near.
    """
    if isinstance(node, dict):
        kind = node.get('type')
        if isinstance(kind, str) and kind.startswith('mmkd.'):
            known = [f'mmkd.{name}' for registry in (MODELS, HOOKS, DATASETS) for name in registry.module_dict]
            if kind not in known:
                raise unknown_name(f'{key}type', kind, known)
        for name, value in node.items():
            check_types(value, f'{key}{name}.')
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            check_types(value, f'{key[:-1]}[{number}].')


def prepare_for_cpu(cfg: Config) -> None:
    """Turns SyncBN into BN, with one notice, and lets several processes talk over gloo."""
    if replace_sync_bn(cfg._cfg_dict):
        print_log('no GPU: every SyncBN of the config is BN in this run')
    if cfg.launcher == 'pytorch' and not torch.distributed.is_initialized():
        # mmengine's launcher would select a CUDA device
        torch.distributed.init_process_group('gloo')
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
