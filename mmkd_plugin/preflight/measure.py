"""A few iterations of a run, in a folder that is gone afterwards: through the Runner, so that all that trains takes part."""
import copy
import math
import shutil
import sys
import time
import uuid
from collections.abc import Sized
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader, Subset

from ..dfa.distiller import ARTEFACT as AGGREGATION
from ..distiller import Distiller, WrapsForward, short_names
from ..distpro.distiller import ARTEFACT as PROCESS
from ..mgd import MatchingUpdateHook
from ..model import distillation_of, distilled
from ..model.runner import attach_to_runner
from ..utils.errors import DistillationError
from ..utils.launch import prepare_for_cpu
from ..utils.work_dirs import work_dir_of
from .measured import Measured
from .memory import Peak
from .setup import length_of

RESULTS = (PROCESS, AGGREGATION)
AT_ONCE = dict(begin=0, end=None, warmup=0, every=1)
"""Of a distiller while it is measured: it acts in each iteration, with its whole weight."""
TIGHT = 12
"""Where an iteration of the student alone takes more than this part of the time there is, one iteration has to do."""
LARGE = 256 * 512
"""Pixels of an image for the dry run above which a smaller one is tried: each network sees it three times and more."""
MULTIPLE = 32
"""Of the sides of such a smaller image: all networks that take images of any size take these."""


class EnoughSeen(Exception):
    """Ends a run, whatever its loop is; never leaves this module."""


class QuickConfig(Config):
    """A config whose text nobody reads: the Runner writes it four times, and its layout takes seconds."""

    @property
    def pretty_text(self) -> str:
        """The content, not laid out."""
        return repr(self._cfg_dict.to_dict())


def short_config(cfg: Config, folder: Path) -> Config:
    """A run's config as it is measured: without validation and checkpoints, in a folder of its own.

    Networks, data, losses, optimiser and hooks stay as they are. Images are loaded in this process; distillers act at once,
    with ``loss_scale=1`` for ``'auto'``; the teacher runs as it is.

    Args:
        cfg: the run's config; it is not changed.
        folder: where the run works.
    """
    short = copy.deepcopy(cfg)
    for result in RESULTS:  # of searches, which replays look for in the work dir
        found = work_dir_of(cfg) / result
        if found.is_file():
            (folder / result).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, folder / result)
    for name, value in dict(work_dir=str(folder), log_level='ERROR', resume=False, launcher='none',
                            experiment_name=f'check {uuid.uuid4().hex}').items():
        short[name] = value
    short._cfg_dict.pop('compile', None)  # takes minutes
    if isinstance(short.get('visualizer'), dict):
        short.visualizer['vis_backends'] = [dict(type='LocalVisBackend', _scope_='mmengine')]
    for name in ('train_dataloader', 'val_dataloader'):
        if isinstance(short.get(name), dict):
            short[name].update(num_workers=0, persistent_workers=False)
            short[name].pop('prefetch_factor', None)
    default_hooks = short.get('default_hooks')
    checkpoint = default_hooks.get('checkpoint') if isinstance(default_hooks, dict) else None
    if isinstance(checkpoint, dict):
        checkpoint.update(interval=-1, save_last=False)
        checkpoint.pop('save_best', None)
    _act_at_once(short.model)
    if not torch.cuda.is_available():
        prepare_for_cpu(short)
    return QuickConfig(short._cfg_dict, cfg_text=short.text, filename=short.filename)


def _act_at_once(model: Dict[str, Any]) -> None:
    blocks, teachers = model.get('distillers'), model.get('teachers')
    for block in blocks.values() if isinstance(blocks, dict) else ():
        if isinstance(block, dict):
            block.update({name: value for name, value in AT_ONCE.items() if name in block})
            for name in ('scale_by_every', 'calibration_iters'):
                block.pop(name, None)
            if block.get('loss_scale') == 'auto':
                block['loss_scale'] = 1.0
    for teacher in [model.get('teacher'), *(teachers.values() if isinstance(teachers, dict) else ())]:
        if isinstance(teacher, dict):
            teacher.pop('runtime', None)


def with_smaller_image(cfg: Config) -> Config:
    """A run's config with a smaller image for the dry run, of nearly the same proportions, where it has a large one."""
    shape = cfg.model.get('image_shape')
    if not isinstance(shape, (list, tuple)) or len(shape) != 3 or not all(isinstance(number, int) for number in shape):
        return cfg  # of what it should be, the model says
    channels, *size = shape
    if math.prod(size) <= LARGE or any(side % MULTIPLE for side in size):
        return cfg
    factor = math.sqrt(LARGE / math.prod(size))
    small = copy.deepcopy(cfg)
    small.model['image_shape'] = (channels, *(max(1, round(side * factor / MULTIPLE)) * MULTIPLE for side in size))
    return small


def short_run(cfg: Config) -> 'ShortRun':
    """A short run with a small image for the dry run, or, where a network does not take it, with the one it has.

    Args:
        cfg: that of :func:`short_config`.
    """
    small = with_smaller_image(cfg)
    if small is not cfg:
        with suppress(DistillationError):
            return ShortRun(small)
    return ShortRun(cfg)


class ShortRun:
    """A run of a few iterations. A matching is found on one image of the training batches.

    Args:
        cfg: that of :func:`short_config`.

    Attributes:
        runner: with distillation attached.
        model: the student.
        measured: what has been seen so far.
        doing: what was going on last, in words, for messages.
        doing_of: the key of the config that this is about.

    Raises:
        DistillationError: for what does not fit; anything else that a data set or a network raises is left as it is.
    """

    def __init__(self, cfg: Config):
        self.measured = Measured()
        self.runner = Runner.from_cfg(cfg)
        attach_to_runner(self.runner)
        self.model = distilled(self.runner)
        self._end = self._begun = 0.0
        self._peak: Optional[Peak] = None
        self._say('train_dataloader', 'the training is set up')

    @property
    def length(self) -> Tuple[Optional[int], Optional[int]]:
        """How many iterations the whole run has, and one pass over its images; None where its data cannot be had."""
        if not isinstance(self.runner._train_loop, BaseLoop):
            return None, None
        return length_of(self.runner)

    def go(self, iterations: int, seconds: float) -> None:
        """Trains.

        Args:
            iterations: for so many, at most.
            seconds: ends after the iteration in which so many are over, once gradients have been compared.
        """
        self.measured.wanted = iterations
        if iterations < 1:
            return
        self._wanted, self._seconds, self._tight = iterations, seconds, False
        self.runner.register_hook(_Before(self))
        self.runner.register_hook(_After(self))
        self._end = time.perf_counter() + seconds
        with suppress(EnoughSeen):
            self.runner.train()

    def _say(self, key: str, words: str) -> None:
        self.doing_of, self.doing = key, words

    def before(self) -> None:
        """The training begins, its data are there; a first matching is about to be found."""
        data = self.runner.train_dataloader
        images: Any = data.dataset
        if not isinstance(data.dataset, Sized):
            return
        one: DataLoader[Any] = DataLoader(Subset(images, [0]), collate_fn=data.collate_fn)
        for hook in self.runner.hooks:
            if isinstance(hook, MatchingUpdateHook):
                hook.look_at(one, self.runner)

    def begin(self, data_batch: Any) -> None:
        """An iteration begins: the student alone is timed on its batch, or gradients are going to be compared, in turn."""
        measured, first = self.measured, self.measured.iterations == 0
        if first:
            self._note_data(data_batch)
            self._peak = Peak()
        timed = measured.iterations % 2 == 0
        if timed:
            self._say('model.student', 'the student alone trains on a batch')
            measured.plain.append(self._plain_step(data_batch))
            self._note_memory('plain', first)
            self._tight = self._tight or measured.plain[-1] > self._seconds / TIGHT
        self._compare_gradients(not timed or self._tight)
        self._say('model.distillers', 'the student is distilled on a batch')
        self._begun = _now()

    def end(self, outputs: Optional[Dict[str, Any]]) -> None:
        """An iteration ends. Raises :class:`EnoughSeen` where it was the last."""
        measured = self.measured
        if measured.iterations % 2 == 0:
            measured.distilled.append(_now() - self._begun)
            self._note_memory('distilled', measured.iterations == 0)
        measured.iterations += 1
        self._note_outputs({name: float(torch.as_tensor(value).detach()) for name, value in (outputs or {}).items()})
        over = self._tight or (time.perf_counter() > self._end and measured.iterations > 1)
        if over or measured.iterations >= self._wanted:
            raise EnoughSeen
        self._say('train_dataloader', 'images are loaded')

    def _plain_step(self, data_batch: Any) -> float:
        data = copy.deepcopy(data_batch)  # some preprocessors pad the ground truth in place
        with distillation_of(self.runner).suspended():
            begun = _now()
            self.runner.model.train_step(data, optim_wrapper=self.runner.optim_wrapper)
            return _now() - begun

    def _compare_gradients(self, wanted: bool) -> None:
        for distiller in distillation_of(self.runner).distillers.values():
            if not (isinstance(distiller, WrapsForward) and distiller.wraps):
                distiller.strength.options = replace(distiller.strength.options, log_gradients=int(wanted))
                if wanted:
                    self.measured.compared.add(distiller.name)

    def _note_data(self, data_batch: Any) -> None:
        self._say('train_dataloader', 'the first batch is made')
        model, dataset = distilled(self.runner), self.runner.train_dataloader.dataset
        data = model.data_preprocessor(copy.deepcopy(data_batch), True)
        self.measured.size = list(model.forward_arguments(data)[0].shape)
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        self.measured.classes_of_data = len(classes) if classes else None

    def _note_memory(self, name: str, wanted: bool) -> None:
        peak = self._peak.mib if wanted and self._peak is not None else None
        if peak is not None:
            self.measured.memory[name] = peak

    def _note_outputs(self, outputs: Dict[str, float]) -> None:
        for name, value in outputs.items():
            if 'loss' in name:
                self.measured.losses.setdefault(name, []).append(value)
        for name, distiller in distillation_of(self.runner).distillers.items():
            for key, suffix in _names(distiller, self.runner).items():
                for kind, kept in (('ratio', self.measured.ratios), ('cosine', self.measured.cosines)):
                    if f'{name}.gradient_{kind}{suffix}' in outputs:
                        kept.setdefault(key, []).append(outputs[f'{name}.gradient_{kind}{suffix}'])


class _Before(Hook):
    """Comes before all other hooks of an iteration."""
    priority = 'HIGHEST'

    def __init__(self, run: ShortRun):
        self._run = run

    def before_train(self, runner: Runner) -> None:
        runner.train_loop.val_begin = sys.maxsize
        self._run.before()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._run.begin(data_batch)


class _After(Hook):
    """Comes after all other hooks of an iteration, so that what a search does there counts."""
    priority = 'LOWEST'

    def __init__(self, run: ShortRun):
        self._run = run

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._run.end(outputs)


def _names(distiller: Distiller, runner: Runner) -> Dict[object, str]:
    """Suffixes of a distiller's gradients in the log: by its name of all taps, by (name, tap) of each."""
    taps = distillation_of(runner).active_taps('student', [distiller.name], runner.iter)
    found: Dict[object, str] = {distiller.name: ''}
    found.update({(distiller.name, tap): f'_{short}' for tap, short in zip(taps, short_names(taps))})
    return found


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
