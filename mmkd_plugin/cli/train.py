"""Training a config: ``mmkd train`` and ``tools/train.py``."""
import argparse
import logging
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Dict, Iterator

from mmengine.config import Config
from mmengine.device import is_cuda_available, is_npu_available
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..search.derive import reads_result
from ..utils.errors import DistillationError
from ..utils.files import existing_file
from ..utils.launch import check_load_from, read_config
from .search import Experiment


def train(args: argparse.Namespace, search_first: bool = False) -> None:
    """Trains a config.

    Args:
        args: the flags, see :func:`~mmkd_plugin.cli.main.flags_of_train`.
        search_first: whether a config that uses what a search finds, and describes that search, is searched before, unless
            that is done.

    Raises:
        DistillationError: for a config or flags that do not fit.
        SystemExit: for flags that the config has no place for, or a search that has failed.
    """
    cfg = read_config(args)
    _apply(args, cfg)
    check_load_from(cfg)
    if search_first and reads_result(cfg):
        _search(args, cfg)
    runner_class = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    with config_in_the_log_file():
        runner = runner_class(cfg)
    runner.train()


def _apply(args: argparse.Namespace, cfg: Config) -> None:
    """What the flags change in the config."""
    if args.amp:
        if not isinstance(cfg.get('optim_wrapper'), dict):
            raise SystemExit(f'error: --amp needs a dict under optim_wrapper, not {cfg.get("optim_wrapper")!r}')
        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise SystemExit(f'error: --amp works with optim_wrapper.type OptimWrapper, not {kind}')
        if not is_cuda_available() and not is_npu_available():
            raise SystemExit('error: --amp needs a GPU: mmengine has mixed precision there only')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        scaling = cfg.get('auto_scale_lr')
        if not isinstance(scaling, dict) or 'base_batch_size' not in scaling:
            raise SystemExit('error: --auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        scaling['enable'] = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume is not None:
        if args.resume != 'auto' and 'runner_type' not in cfg:  # other runners may go on from folders
            existing_file(args.resume, '--resume')
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


def _search(args: argparse.Namespace, cfg: Config) -> None:
    experiment = Experiment(args.config, work_dir=Path(cfg.work_dir), cfg_options=args.cfg_options or ())
    result = experiment.result
    if args.launcher == 'none':
        print(f'search: the training uses {result}; it is searched first, unless that is done', flush=True)
        experiment.as_searched().run_search()  # it may be the mean of several seeds, or have options of its own
    elif not result.is_file():
        raise DistillationError('is not there, and a process of many does not search for it', path='search',
                                given=str(result), accepted=f'a search before the training: mmkd search {args.config} '
                                f'--work-dir {cfg.work_dir} --gpus N')


@contextmanager
def config_in_the_log_file() -> Iterator[None]:
    """Inside, a Runner writes the text of its config to its log file alone: on a terminal it would hide what matters."""
    log = Runner._log_env

    @wraps(log)
    def short(self: Runner, env_cfg: Dict[str, Any]) -> None:
        terminals = [handler for handler in self.logger.handlers if not isinstance(handler, logging.FileHandler)]
        for handler in terminals:
            handler.addFilter(_is_no_config)
        try:
            log(self, env_cfg)
        finally:
            for handler in terminals:
                handler.removeFilter(_is_no_config)
        self.logger.info(f'config: {self.cfg.filename}, in full in the log file and in {self.work_dir}')

    Runner._log_env = short
    try:
        yield
    finally:
        Runner._log_env = log


def _is_no_config(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith('Config:\n')
