"""Accuracy tables: trains the cells that are missing and keeps every result at once.

A table is a small Python config file::

    metric = 'mIoU'                  # name of the metric, as the evaluator logs it
    split = 'test'                   # 'test': tools/test.py on the last checkpoint; 'val': the last validation of training
    scale = 1                        # the table shows values times this: 100 where the evaluator logs fractions
    seeds = [0, 1, 2]
    teacher, alone = 'teacher', 'alone'  # the rows that others are compared with; by default 'teacher' and 'student alone'
    rows = [
        dict(name='teacher', config='configs/.../teacher.py', seeds=[0]),
        dict(name='alone', config='configs/.../student.py'),
        dict(name='MGD', config='configs/.../mgd.py', overrides={'model.teacher.checkpoint': '{teacher}'}),
        dict(name='search', config='configs/.../dfa.py', stage='search', seeds=[0]),  # the search that the config describes
        dict(name='given', config='configs/.../teacher.py', checkpoint='teacher.pth', seeds=[0]),  # is tested, not trained
        dict(name='DFA', label='DFA, searched', config='configs/.../dfa.py',  # the label is what pages show
             overrides={'model.distillers.dfa.aggregation': '{search:aggregation.json}'}),
    ]

``{name}`` in an override stands for the last checkpoint of the first seed of that row, which must come earlier;
``{name:file}`` for a file in the same folder, e.g. ``{search:process.json}``; ``{seed}`` for the cell's seed. The overrides
of a search change its derived config. It does not validate: its student is tested by tools/test.py, whatever the split,
and so are given weights.
"""
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config

from ..search.derive import derive_search
from ..utils.config import carried_folder
from ..utils.errors import DistillationError, check_known_keys, unknown_name
from ..utils.work_dirs import latest_checkpoint
from .results import Cell, Results, commit, read_results, seconds_per_iteration, write_results

TOOLS = carried_folder(Path(__file__).resolve().parents[1], 'tools')
SPLITS = ('val', 'test')
STAGES = ('train', 'search')
TEACHER, ALONE = 'teacher', 'student alone'
REFERENCE = re.compile(r'{(?!seed})([^{}:]+)(?::([^{}]+))?}')


@dataclass
class Row:
    """One row: a config (its training or its search), what is changed in it, and for which seeds it is run.

    With a ``checkpoint`` nothing is trained: its weights are what is tested, and what ``{name}`` stands for.
    """
    name: str
    config: str
    overrides: Dict[str, Any] = field(default_factory=dict)
    seeds: List[int] = field(default_factory=list)
    stage: str = 'train'
    label: str = ''
    checkpoint: str = ''

    @property
    def title(self) -> str:
        """What it is called where its results are shown."""
        return self.label or self.name

    @property
    def references(self) -> List[str]:
        """Names of the rows whose files it needs."""
        return [name for value in self.overrides.values() if isinstance(value, str) for name, _ in REFERENCE.findall(value)]

    @property
    def slug(self) -> str:
        """Its name as a part of the names of folders."""
        return ''.join(letter if letter.isalnum() else '-' for letter in self.name).strip('-').lower()


@dataclass
class Table:
    """A table of accuracies; see the module for the keys."""
    rows: List[Row]
    seeds: List[int]
    metric: str
    split: str = 'test'
    scale: float = 1
    teacher: Optional[str] = None
    alone: Optional[str] = None

    @property
    def teacher_name(self) -> str:
        """The row of the teacher, if there is one."""
        return self.teacher or TEACHER

    @property
    def alone_name(self) -> str:
        """The row of the student without a teacher, if there is one."""
        return self.alone or ALONE

    @classmethod
    def from_file(cls, path: Path) -> 'Table':
        """Reads a table file. Raises :class:`DistillationError` for unknown keys or values."""
        content = Config.fromfile(path)._cfg_dict.to_dict()
        check_known_keys(str(path), content, ('rows', 'seeds', 'metric', 'split', 'scale', 'teacher', 'alone'))
        rows = []
        for number, row in enumerate(content['rows']):
            check_known_keys(f'{path}: rows[{number}]', row, [key.name for key in fields(Row)])
            rows.append(Row(**row))
        return cls(**{**content, 'rows': rows})

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown_name('split', self.split, SPLITS)
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise DistillationError('has a name twice', path='rows', given=names)
        for key in ('teacher', 'alone'):
            if getattr(self, key) not in (None, *names):
                raise unknown_name(key, getattr(self, key), names)
        for position, row in enumerate(self.rows):
            if row.stage not in STAGES:
                raise unknown_name(f'rows[{position}].stage', row.stage, STAGES)
            if row.checkpoint and row.stage == 'search':
                raise DistillationError('stands in a row of a search, which makes its own', given=row.checkpoint,
                                        path=f'rows[{position}].checkpoint', accepted="'', or stage='train'")
            row.seeds = row.seeds or list(self.seeds)
            if not row.seeds:
                raise DistillationError(f'is empty, and the row {row.name!r} has none', path='seeds', given=self.seeds,
                                        accepted='a list of at least one whole number')
            for wanted in row.references:
                if wanted not in names[:position]:
                    raise unknown_name(f'rows[{position}].overrides', wanted, names[:position],
                                       'In braces stands an earlier row, for its checkpoint or a file of its.')


class TableRun:
    """Runs a table.

    Args:
        table: what to run.
        work_dir: folder for logs and checkpoints, one folder a cell.
        results: the JSON file that keeps every result; see :mod:`~mmkd_plugin.report.results`.
        jobs: cells that run at a time. Cores are shared between them, and a GPU, if there is one.
        minutes: how long :meth:`run` may take; None: until all is there. What runs then is ended, to go on from its last
            checkpoint at the next call.
    """

    def __init__(self, table: Table, work_dir: Path, results: Path, jobs: int = 1, minutes: Optional[float] = None):
        self.table, self.work_dir, self.path, self.jobs = table, work_dir, results, jobs
        self.results = read_results(results)
        self._commit: Optional[str] = None
        self._lock = threading.Lock()
        self._minutes, self._end = minutes, math.inf

    def run(self) -> Results:
        """Runs what is missing, row by row; a cell that was interrupted goes on from its last checkpoint."""
        self._commit = commit()
        self._end = time.monotonic() + 60 * self._minutes if self._minutes is not None else math.inf
        waiting = list(self.table.rows)
        while waiting and time.monotonic() < self._end:
            # Rows that need no file of another waiting row may run together; the first always may.
            ready = [row for row in waiting if not any(other.name in row.references for other in waiting)]
            cells = [(row, seed) for seed in sorted({seed for row in ready for seed in row.seeds}) for row in ready
                     if seed in row.seeds and self._is_missing(row, seed, waiting)]
            jobs = max(1, min(self.jobs, len(cells)))
            run_cell = partial(self._run_in_time, threads=_threads(jobs))
            with ThreadPoolExecutor(jobs) as pool:
                for _ in pool.map(run_cell, *zip(*cells)) if cells else ():
                    pass
            waiting = [row for row in waiting if row not in ready]
        return self.results

    @property
    def missing(self) -> int:
        """How many cells have no result."""
        return sum(str(seed) not in self.results.get(row.name, {}) for row in self.table.rows for seed in row.seeds)

    def _is_missing(self, row: Row, seed: int, waiting: Sequence[Row]) -> bool:
        if str(seed) not in self.results.get(row.name, {}):
            return True
        # Its result is known, but somebody still to be run may want its checkpoint (results travel, checkpoints do not).
        wanted = any(row.name in other.references and self._is_missing(other, other_seed, waiting)
                     for other in waiting if other is not row for other_seed in other.seeds)
        return (wanted and seed == row.seeds[0] and not row.checkpoint
                and not (self.folder(row, seed) / 'last_checkpoint').exists())

    def folder(self, row: Row, seed: int) -> Path:
        """The work dir of a cell."""
        return self.work_dir / f'{row.slug}-seed{seed}'

    def file_of(self, name: str, file: str = '') -> Path:
        """A file in the folder of a row's first seed; by default its last checkpoint."""
        row = next(row for row in self.table.rows if row.name == name)
        folder = self.folder(row, row.seeds[0])
        if file:
            return folder / file
        return Path(row.checkpoint) if row.checkpoint else last_checkpoint(folder)

    def checkpoint(self, name: str) -> Path:
        """The last checkpoint of the first seed of a row."""
        return self.file_of(name)

    def _run_in_time(self, row: Row, seed: int, threads: int) -> None:
        if time.monotonic() < self._end:
            with suppress(_TimeIsOver):
                self._run_cell(row, seed, threads)

    def _run_cell(self, row: Row, seed: int, threads: int) -> None:
        folder = self.folder(row, seed)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        options = [f'randomness.seed={seed}', *(f'{key}={self._fill(value, seed)}' for key, value in row.overrides.items())]
        trained = folder / 'trained'  # made at its end; in it, the commit
        if row.checkpoint:
            trained.write_text(self._commit or '')
        elif not trained.exists():
            config = _config_of(row, folder)
            _call('train.py', config, '--work-dir', folder, '--resume', '--cfg-options', *options,
                  log=folder / 'train.log', threads=threads, end=self._end)
            trained.write_text(self._commit or '')
        if self.table.split == 'test' or row.stage == 'search' or row.checkpoint:
            _call('test.py', row.config, row.checkpoint or last_checkpoint(folder), '--work-dir', folder / 'test',
                  '--cfg-options', *options, log=folder / 'test.log', threads=threads, end=self._end)
            metrics = _last_json(folder / 'test', '*/*.json')
        else:
            metrics = _last_json(folder, '*/vis_data/scalars.json', self.table.metric)
        if self.table.metric not in metrics:
            raise unknown_name('metric', self.table.metric, metrics)
        value = float(metrics[self.table.metric])
        self._keep(row, seed, Cell(value, seconds_per_iteration(folder), trained.read_text() or None))
        seconds = time.perf_counter() - started
        print(f'  {row.name}, seed {seed}: {self.table.metric} {self.table.scale * value:.2f} ({seconds:.0f} s)', flush=True)

    def _keep(self, row: Row, seed: int, cell: Cell) -> None:
        with self._lock:  # cells run in threads
            self.results.setdefault(row.name, {})[str(seed)] = cell
            write_results(self.path, self.results)

    def _fill(self, value: Any, seed: int) -> Any:
        if not isinstance(value, str):
            return value
        return REFERENCE.sub(lambda match: str(self.file_of(*match.groups(''))), value).replace('{seed}', str(seed))


def _config_of(row: Row, folder: Path) -> Path:
    """The config that is trained for a row; that of a search is written into the folder."""
    config = Path(row.config)
    if row.stage == 'train':
        return config
    search = folder / config.name
    derive_search(Config.fromfile(config)).dump(search)
    return search


def last_checkpoint(folder: Path) -> Path:
    """The last checkpoint of a work dir. Raises :class:`DistillationError` if there is none."""
    found = latest_checkpoint(folder)
    if found is None:
        raise DistillationError('has no checkpoint', path=str(folder))
    return found


def _threads(jobs: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1  # not on macOS
    return max(1, cores // jobs)


class _TimeIsOver(Exception):
    """A cell was ended since the time of the run is over."""


def _call(script: str, *arguments: Any, log: Path, threads: int, end: float) -> None:
    """Runs a tool; at ``end``, in seconds of the monotonic clock, it is told to end, and :class:`_TimeIsOver` is raised."""
    command = [sys.executable, str(TOOLS / script), *map(str, arguments)]
    with open(log, 'w') as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT,
                                                    env={**os.environ, 'OMP_NUM_THREADS': str(threads)}) as process:
        try:
            code = process.wait(None if math.isinf(end) else max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.terminate()  # checkpoints are whole or not there; leaving the block waits for its end
            raise _TimeIsOver from None
    if code:
        raise SystemExit(f'{" ".join(command)} failed; the end of {log}:\n' + '\n'.join(log.read_text().splitlines()[-15:]))


def _last_json(folder: Path, pattern: str, key: Optional[str] = None) -> Dict[str, Any]:
    """The last line (with ``key``) of the JSON-lines files below ``folder``, oldest file first."""
    files = sorted(folder.glob(pattern), key=os.path.getmtime)
    lines: List[Dict[str, Any]] = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    found = [line for line in lines if key is None or key in line]
    if not found:
        raise DistillationError(f'{folder}: no result' + (f' {key!r}' if key else '') + f' in {pattern}')
    return found[-1]
