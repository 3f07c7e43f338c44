"""Training a config: ``mmkd train`` and ``tools/train.py``."""
import argparse
import logging
import os
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from pathlib import Path
from shutil import rmtree
from typing import Any, Dict, Iterator, List, Optional, Type

from mmengine.config import Config
from mmengine.device import is_cuda_available, is_npu_available
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner

from ..search.derive import reads_result
from ..utils.errors import DistillationError
from ..utils.files import existing_file
from ..utils.launch import check_load_from, make_work_dir, read_config
from .search import Experiment

AT_LENGTH = ('Config:', 'System environment:', 'Hooks will be executed in the following order:')
"""How what a Runner says at length begins."""


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
    with NewFolders() as new:
        cfg = read_config(args, new.make)
        _apply(args, cfg)
        check_load_from(cfg)
        if search_first and reads_result(cfg):
            _search(args, cfg, new)
        runner_class = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
        with short_on_terminals():
            runner = runner_class(cfg)
        new.runner = runner
        runner.train()


class NewFolders(AbstractContextManager[Any]):
    """A run that ends in a mistake of the user before its first iteration leaves no new folder behind.

    Attributes:
        used: whether something has been done in them.
        runner: who trains in them.
    """

    def __init__(self) -> None:
        self.used = False
        self.runner: Optional[Runner] = None
        self._made: List[Path] = []

    def make(self, folder: Any) -> None:
        """Makes a work dir; see :func:`make_work_dir`."""
        path = Path(folder).expanduser() if isinstance(folder, (str, os.PathLike)) else Path()
        missing = [place for place in (path, *path.parents) if not os.path.lexists(place)]
        make_work_dir(folder)
        self._made = missing

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Any) -> None:
        mistake = isinstance(error, (DistillationError, SystemExit))
        if not mistake or self.used or self._has_iterated() or not self._made or not is_main_process():
            return
        rmtree(self._made[0], ignore_errors=True)
        with suppress(OSError):  # somebody else works beside it
            for above in self._made[1:]:
                above.rmdir()

    def _has_iterated(self) -> bool:
        loop = getattr(self.runner, '_train_loop', None)  # runner.iter would build it, with its data
        return isinstance(loop, BaseLoop) and loop.iter > 0


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


def _search(args: argparse.Namespace, cfg: Config, new: NewFolders) -> None:
    experiment = Experiment(args.config, work_dir=Path(cfg.work_dir), cfg_options=args.cfg_options or ())
    result = experiment.result
    if args.launcher == 'none':
        print(f'search: the training uses {result}; it is searched first, unless that is done', flush=True)
        new.used = True
        experiment.as_searched().run_search()  # it may be the mean of several seeds, or have options of its own
    elif not result.is_file():
        raise DistillationError('is not there, and a process of many does not search for it', path='search',
                                given=str(result), accepted=f'a search before the training: mmkd search {args.config} '
                                f'--work-dir {cfg.work_dir} --gpus N')


@contextmanager
def short_on_terminals() -> Iterator[None]:
    """Inside, what a Runner says of itself at length (its config, the machine, the hooks) is in its log file alone.

    On a terminal it would hide what matters.
    """
    log = Runner._log_env

    @wraps(log)
    def short(self: Runner, env_cfg: Dict[str, Any]) -> None:
        for handler in self.logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_short)
        log(self, env_cfg)
        self.logger.info(f'config: {self.cfg.filename}, in full in {self.work_dir}; machine and hooks are in the log file')

    Runner._log_env = short
    try:
        yield
    finally:
        Runner._log_env = log


def _is_short(record: logging.LogRecord) -> bool:
    return not str(record.msg).strip('\n-').startswith(AT_LENGTH)
