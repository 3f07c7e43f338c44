"""One run, as far as its work dir tells: config, numbers, log, tests, the last checkpoint, what a search wrote."""
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..dfa.artefact import FORMAT as AGGREGATION
from ..dfa.artefact import read_aggregation
from ..distpro.artefact import FORMAT as PROCESS
from ..distpro.artefact import read_process
from ..distpro.process import Process
from ..model.resume.section import KEY
from ..search.artefact import format_of
from ..utils.checkpoint_files import open_checkpoint
from ..utils.config import is_file
from ..utils.errors import LONGEST_NAME, DistillationError, shortened
from ..utils.work_dirs import latest_checkpoint, started
from .configs import RunConfig, parsed, text_of
from .logs import Log, read_logs
from .scalars import Scalars, Series, last_numbers, numbers_in, parsed_object, read_scalars, summed

SEARCH = 'search'
"""The folder of a search, in the work dir of its training."""
ARTEFACTS = ('process.json', 'aggregation.json')
MOST_ARTEFACTS = 10
CHECKED, LARGEST_CHECK = 'check.json', 2 ** 20
"""In a work dir, what `mmkd check` has found before the training; its file, and the bytes that are read."""


@dataclass(frozen=True)
class Saved:
    """What the last checkpoint of a run says beside its weights.

    Attributes:
        file: the checkpoint.
        iteration, epoch, seed: as its meta has them; None where it does not.
        teacher: what is kept about the teachers, ``sha256``, ``checkpoint`` and others.
        distillers: the names of those whose state it keeps.
        versions: those of mmengine and others.
    """
    file: Path
    iteration: Optional[int] = None
    epoch: Optional[int] = None
    seed: Optional[int] = None
    teacher: Dict[str, str] = field(default_factory=dict)
    distillers: Sequence[str] = ()
    versions: Dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """A training, whole or not.

    Attributes:
        folder: its work dir.
        name: what it is called on the page.
        config: what its config says.
        scalars: what was logged.
        log: what its logs say.
        tested: the metrics of its last test; empty where there was none.
        teachers: how good its teachers were in the check before the training, by where they stand in the config and on how
            many images.
        saved: the last checkpoint.
        processes, aggregations: what searches have found, by file.
        missing: what a whole run has and this one does not.
    """
    folder: Path
    name: str
    config: RunConfig = field(default_factory=RunConfig)
    scalars: Scalars = field(default_factory=Scalars)
    log: Log = field(default_factory=Log)
    tested: Dict[str, float] = field(default_factory=dict)
    teachers: Dict[str, Dict[str, float]] = field(default_factory=dict)
    saved: Optional[Saved] = None
    processes: Dict[Path, Process] = field(default_factory=dict)
    aggregations: Dict[Path, Dict[str, Any]] = field(default_factory=dict)
    missing: List[str] = field(default_factory=list)

    @property
    def is_distilled(self) -> bool:
        """Whether it is a distilled run."""
        return self.config.is_distilled or bool(self.saved and self.saved.distillers)

    @property
    def seed(self) -> Optional[int]:
        """Its seed, None where neither the checkpoint nor the config says it."""
        return self.saved.seed if self.saved is not None and self.saved.seed is not None else self.config.seed

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end, as far as can be told."""
        last = max(self.scalars.last_step, (self.saved.iteration if self.saved else None) or 0)
        length, epochs = self.config.length('iters'), self.config.length('epochs')
        reached = self.saved.epoch if self.saved else None
        if length is not None and epochs is None:
            # What is logged every 50 iterations need not be logged in the last.
            return last >= length or (self.saved is None and length - last < length // 50)
        return epochs is None or reached is None or reached >= epochs

    def distiller_of(self, name: str) -> Optional[str]:
        """The distiller that a logged number is of; None for the student's own."""
        prefix, separator, _ = name.partition('.')
        configured = self.config.distillers
        if not separator:
            return None
        if prefix in configured or prefix in (self.saved.distillers if self.saved else ()):
            return prefix
        # A pool names its members after itself.
        return prefix if any(prefix.startswith(f'{each}_') for each in configured) else None

    @property
    def task_losses(self) -> Dict[str, Series]:
        """The student's own losses by name; the total is not among them."""
        return {name: series for name, series in self.scalars.train.items() if 'loss' in name
                and name != 'loss' and self.distiller_of(name) is None and not name.startswith('distillation.')}

    @property
    def task_loss(self) -> Series:
        """The sum of the student's own losses."""
        own = self.task_losses
        if own:
            return summed(own.values())
        return Series() if self.is_distilled else self.scalars.train.get('loss', Series())

    def logged(self, wanted: str) -> Dict[str, Dict[str, Series]]:
        """By distiller, what it logged under names that have this in them, by name.

        Args:
            wanted: ``'loss'``, for the weighted losses, or the beginning of another name.
        """
        found: Dict[str, Dict[str, Series]] = {}
        for name, series in self.scalars.train.items():
            distiller, key = self.distiller_of(name), name.partition('.')[2]
            if distiller is not None and wanted in key:
                found.setdefault(distiller, {})[key] = series
        return found


def read_run(folder: Path, key: str = 'WORK_DIR') -> Run:
    """Reads what a training has left. What is missing or cannot be read is noted in ``missing``.

    Args:
        folder: its work dir.
        key: where it was named, for messages.

    Raises:
        DistillationError: for a folder that is none, or in which no training has left anything.
    """
    try:
        starts = started(folder) if folder.is_dir() else None
        if starts is None:
            raise DistillationError('is no folder', path=key, given=str(folder), accepted='the work dir of a training')
        checkpoint = latest_checkpoint(folder)
    except (OSError, ValueError) as error:  # a name that is too long, a folder that may not be looked into
        if isinstance(error, DistillationError):
            raise
        raise DistillationError(f'cannot be read ({error})', path=key, given=str(folder),
                                accepted='the work dir of a training') from None
    if not (starts or checkpoint or list(folder.glob('*.py'))):
        raise DistillationError('holds no run: no log, no config, no checkpoint', path=key, given=str(folder),
                                accepted='the work dir of a training')
    run = Run(folder, folder.resolve().name)
    _read_config(run, starts)
    run.scalars = read_scalars(filter(is_file, [start / 'vis_data/scalars.json' for start in starts]))
    run.log = read_logs(filter(is_file, [start / f'{start.name}.log' for start in starts]))
    tests = sorted([*folder.glob('*/*.json'), *folder.glob('test/*/*.json')], key=lambda file: file.stem)
    run.tested = last_numbers(file for file in tests if file.stem == file.parent.name and is_file(file))
    run.teachers = _read_scores(folder / CHECKED)
    if checkpoint is not None:
        run.saved = _read_checkpoint(run, checkpoint)
    _read_artefacts(run)
    _note_what_is_missing(run)
    return run


def _read_config(run: Run, starts: Sequence[Path]) -> None:
    """The config in the work dir, or where there are several, the one of the last start."""
    own = sorted(run.folder.glob('*.py'))
    kept = [start / 'vis_data/config.py' for start in starts[::-1]]
    for file in [*(own if len(own) == 1 else ()), *filter(is_file, kept), *own]:
        try:
            run.config.text = text_of(file)
            run.config.values = parsed(run.config.text)
            return
        except DistillationError as error:
            run.missing.append(f'the config as data ({file.name}: {error}) what follows from its keys is not shown')
            if run.config.text:
                return
    if not run.config.text:
        run.missing.append('the config: there is none in the work dir')


def _read_checkpoint(run: Run, file: Path) -> Optional[Saved]:
    try:
        content = open_checkpoint(file)
    except DistillationError as error:
        run.missing.append(f'the last checkpoint: {error}')
        return None
    meta, section = _part(content, 'meta'), _part(content, KEY)
    numbers = {new: meta[old] for old, new in (('iter', 'iteration'), ('epoch', 'epoch'), ('seed', 'seed'))
               if type(meta.get(old)) is int}
    versions = {name: str(meta[name]) for name in ('mmengine_version', 'time') if isinstance(meta.get(name), str)}
    return Saved(file, **numbers, teacher={str(name): str(value) for name, value in _part(section, 'teacher').items()},
                 distillers=list(map(str, _part(section, 'distillers'))), versions=versions)


def _part(content: Any, name: str) -> Mapping[Any, Any]:
    found = content.get(name) if isinstance(content, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _read_scores(file: Path) -> Dict[str, Dict[str, float]]:
    if not is_file(file) or file.stat().st_size > LARGEST_CHECK:
        return {}
    scores = _part(parsed_object(file.read_text(errors='replace')), 'measured').get('teachers')
    found = {}
    for score in scores if isinstance(scores, list) else ():
        metrics = numbers_in(_part(score, 'metrics'))
        if metrics:
            key, images = (shortened(str(score.get(name)), LONGEST_NAME) for name in ('key', 'images'))
            found[f'{key} on {images} validation images'] = metrics
    return found


def _read_artefacts(run: Run) -> None:
    """What searches have written: in the work dir, in that of its search, or where the config says it is."""
    named = [block.get(key) for block in run.config.distillers.values() for key in ('process', 'aggregation')]
    given = [Path(name) for name in named if isinstance(name, str) and name.endswith('.json')]
    files = [*sorted(run.folder.glob('*.json')), *sorted((run.folder / SEARCH).glob('*.json')), *given]
    for file in list(dict.fromkeys(path.resolve() for path in files if is_file(path)))[:MOST_ARTEFACTS]:
        try:
            if format_of(file, (PROCESS, AGGREGATION)) is PROCESS:
                run.processes[file] = read_process(file)
            else:
                run.aggregations[file] = read_aggregation(file)
        except DistillationError as error:
            if file.name in ARTEFACTS:
                run.missing.append(f'what the search has found: {error}')


def _note_what_is_missing(run: Run) -> None:
    scalars = run.scalars
    if scalars.unread:
        run.missing.append(f'{scalars.unread} lines of scalars.json, which are cut off or no JSON')
    if not scalars.train:
        every, done = run.config.logged_every, run.saved.iteration if run.saved else None
        why = '' if every is None or done is None or done >= every else (
            f'; numbers are logged every {every} iterations (default_hooks.logger.interval), and it had {done}')
        run.missing.append(f'the numbers of the training (vis_data/scalars.json): no curves, times or strengths{why}')
    if not scalars.validation:
        run.missing.append('a validation: no metric of it is known')
    if run.saved is None and not any('checkpoint' in text for text in run.missing):
        run.missing.append('a checkpoint: no example pictures')
    if not run.is_finished:
        length = run.config.length('iters')
        of = f' of {length}' if length is not None else ''
        run.missing.append(f'its end: it came to iteration {scalars.last_step}{of}; `mmkd train CONFIG --resume` goes on')
