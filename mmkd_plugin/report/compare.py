"""Several runs side by side: which are seeds of one config, which is the teacher, which the student alone, what is won."""
import math
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ..model.plain import student_of
from ..utils.errors import DistillationError, unknown_name
from .configs import flat
from .runs import Run, read_run

DISTILLED, ALONE, TEACHER, PLAIN = 'distilled', 'student alone', 'teacher', 'plain'
ORDER = (TEACHER, ALONE, PLAIN, DISTILLED)
"""From top to bottom."""
PREFERRED = ('mIoU', 'coco/bbox_mAP', 'coco/segm_mAP', 'accuracy/top1', 'pascal_voc/mAP', 'abs_rel', 'rmse')
"""Metrics that are taken for the main one, where the config does not say which checkpoint is the best one."""
LOWER = re.compile(r'(^|[/_.])(abs_?rel|sq_?rel|rmse(_log)?|mae|mse|loss|error|err|silog|log_?10|nme|top\d_error)$', re.I)
"""Names of metrics of which less is better."""
NOT_THE_EXPERIMENT = re.compile(
    r'^(work_dir|randomness\b|seed$|experiment_name|load_from|resume|launcher|log_level|visualizer\b|vis_backends\b'
    r'|env_cfg\b|custom_imports\b|default_hooks\.(logger|checkpoint|visualization)\b)')
"""Keys in which runs of one config may differ."""
TIMES = ('time', 'data_time')
OF_STUDENT = re.compile(r'^model\.student\.')


@dataclass
class Row:
    """Runs of one config, which differ in their seeds; or a number that was given.

    Attributes:
        role: one of the names above.
        label: what it is called.
        runs: the runs, by seed; none where a number was given.
        last: the metric at the last validation, of those runs that have one.
        best: at the best one, with its iteration.
        tested: in the test.
        by_test: whether it is compared with others by the test, not by the last validation.
        gap: the part of the distance between the student alone and the teacher that it has closed; None where that is not
            known, or the teacher is not the better one.
    """
    role: str
    label: str
    runs: List[Run] = field(default_factory=list)
    last: List[float] = field(default_factory=list)
    best: List[Tuple[float, int]] = field(default_factory=list)
    tested: List[float] = field(default_factory=list)
    by_test: bool = False
    gap: Optional[float] = None

    @property
    def compared(self) -> List[float]:
        """The metric by which it is compared with others, run by run: at the last validation, or in the test."""
        return self.tested if self.by_test else self.last

    @property
    def mean(self) -> Optional[float]:
        """Of these; None where no run has one."""
        return statistics.fmean(self.compared) if self.compared else None

    @property
    def spread(self) -> Optional[float]:
        """Their standard deviation, of the sample; None below two seeds."""
        return statistics.stdev(self.compared) if len(self.compared) > 1 else None


@dataclass
class Comparison:
    """What a page is about.

    Attributes:
        metric: the main metric; '' where no run has one.
        lower: whether less of it is better.
        rows: the teacher's first, then the student's alone, then the others'.
        why_no_gap: why the gap that is closed is not said; '' where it is.
    """
    metric: str
    lower: bool
    rows: List[Row]
    why_no_gap: str = ''

    @property
    def runs(self) -> List[Run]:
        """All runs, in the order of the rows."""
        return [run for row in self.rows for run in row.runs]

    @property
    def by_test(self) -> bool:
        """Whether the rows are compared by their tests."""
        return any(row.by_test for row in self.rows)

    def of(self, role: str) -> List[Row]:
        """The rows of a role."""
        return [row for row in self.rows if row.role == role]

    def better(self, one: float, other: float) -> float:
        """By how much one value of the metric is better than another; negative where it is worse."""
        return other - one if self.lower else one - other


def compare(work_dirs: Sequence[Path], alone: Sequence[str] = (), teacher: Sequence[str] = (),
            metric: Optional[str] = None) -> Comparison:
    """Reads runs and puts them side by side.

    Args:
        work_dirs: the runs that the page is about. One that is not distilled and has the student of one that is, is the
            student alone.
        alone: work dirs of the student's training alone, or its metric as a number.
        teacher: likewise, of the teacher. Without, the run that has left the teacher's checkpoint is taken, if there is one.
        metric: its name; None: the one by which the best checkpoint is kept, or a usual one.

    Raises:
        DistillationError: for a folder that is no run, or a metric that no run has.
    """
    runs = [read_run(folder) for folder in _once(work_dirs)]
    alones, teachers = _given(alone, '--alone'), _given(teacher, '--teacher')
    if not teachers:
        teachers = _trained_teachers(runs)
    _name_apart([*runs, *(run for run in [*alones, *teachers] if isinstance(run, Run))])
    rows = [*_rows(teachers, TEACHER), *_rows(alones, ALONE)]
    named = {run.folder.resolve() for row in rows for run in row.runs}
    rows += _rows([run for run in runs if run.folder.resolve() not in named])
    chosen = _choose_metric(rows, metric)
    rows.sort(key=lambda row: ORDER.index(row.role))
    found = Comparison(chosen, bool(LOWER.search(chosen)), rows)
    for row in found.rows:
        for run in row.runs:
            _take_metric(row, run, found)
    trained = [row for row in rows if row.runs]
    if not all(row.last for row in trained) and all(row.tested for row in trained):
        for row in trained:
            row.by_test = True
    _close_gaps(found)
    return found


def _once(folders: Sequence[Path]) -> List[Path]:
    return list({folder.resolve(): folder for folder in folders}.values())


def _given(references: Sequence[str], key: str) -> List[Union[Run, float]]:
    found: List[Union[Run, float]] = []
    for reference in references:
        try:
            number = float(reference)
        except ValueError:
            found.append(read_run(Path(reference), key))
            continue
        if not math.isfinite(number):
            raise DistillationError(path=key, given=reference, accepted='a work dir, or a number')
        found.append(number)
    return found


def _trained_teachers(runs: Sequence[Run]) -> List[Union[Run, float]]:
    """The runs in whose work dirs the teachers' checkpoints lie, where these are work dirs with validations."""
    found: Dict[Path, Union[Run, float]] = {}
    for run in runs:
        named = [block.get('checkpoint') for block in run.config.teachers.values()]
        identity = run.saved.teacher if run.saved else {}
        kept = [value for name, value in identity.items() if name.split('.')[-1] == 'checkpoint']
        for name in [*named, *kept]:
            folder = Path(name).parent if isinstance(name, str) and '://' not in name and '\0' not in name else None
            if folder is None or folder.resolve() in found:
                continue
            try:
                teacher = read_run(folder)
            except DistillationError:  # a folder of checkpoints
                continue
            if teacher.scalars.validation:
                found[folder.resolve()] = teacher
    return list(found.values())


def _name_apart(runs: Sequence[Run]) -> None:
    """Gives runs whose folders have the same name as much of their paths as tells them apart."""
    folders = {run.folder.resolve() for run in runs}
    for run in runs:
        parts = run.folder.resolve().parts
        for count in range(1, len(parts) + 1):
            run.name = '/'.join(parts[-count:])
            if sum(folder.parts[-count:] == parts[-count:] for folder in folders) == 1:
                break


def _rows(runs: Sequence[Union[Run, float]], role: Optional[str] = None) -> List[Row]:
    """Runs of one config are one row; numbers are one, too."""
    numbers = [run for run in runs if not isinstance(run, Run)]
    there = [run for run in runs if isinstance(run, Run)]
    rows = [Row(role or PLAIN, f'{role} (as given)', last=numbers)] if numbers else []
    groups: Dict[Any, List[Run]] = {}
    for run in there:
        groups.setdefault(fingerprint(run) or run.folder.resolve(), []).append(run)
    students = [_student(run) for run in there if run.is_distilled]
    for group in groups.values():
        first = group[0]
        own = DISTILLED if first.is_distilled else ALONE if _student(first) in students else PLAIN
        label = first.name if len(group) == 1 else f'{first.name} and {len(group) - 1} more'
        rows.append(Row(role or own, label, sorted(group, key=lambda run: (run.seed is None, run.seed or 0))))
    return rows


def fingerprint(run: Run) -> Tuple[Tuple[str, str], ...]:
    """What two runs of one experiment have in common: their config, but for the seed, the work dir and the like."""
    return tuple(sorted((key, value) for key, value in flat(run.config.values) if not NOT_THE_EXPERIMENT.match(key)))


def _student(run: Run) -> Any:
    """The config of the student; None where it cannot be told."""
    try:
        return student_of(run.config.values)
    except (DistillationError, KeyError, TypeError, ValueError, AttributeError):
        return None


def differing_keys(runs: Sequence[Run]) -> Dict[str, List[str]]:
    """The keys in which the configs of runs differ, each with the value in each run; '' where one does not have it.

    The student of a distilled run stands under ``model``, as that of others does.
    """
    tables = [{OF_STUDENT.sub('model.', key): value for key, value in flat(run.config.values)} for run in runs]
    keys = dict.fromkeys(key for table in tables for key in table if not NOT_THE_EXPERIMENT.match(key))
    found = {key: [table.get(key, '') for table in tables] for key in keys}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def _choose_metric(rows: Sequence[Row], wanted: Optional[str]) -> str:
    runs = [run for row in rows for run in row.runs]
    # Those of the page's own runs come first: a teacher may have been measured otherwise.
    runs.sort(key=lambda run: not run.is_distilled)
    names = list(dict.fromkeys(name for run in runs for name in [*run.scalars.validation, *run.tested] if name not in TIMES))
    if wanted is not None:
        if wanted not in names:
            raise unknown_name('--metric', wanted, names)
        return wanted
    kept = [hook.get('save_best') for hook in map(_checkpoint_hook, runs)]
    return next((name for name in [*kept, *PREFERRED, *names] if isinstance(name, str) and name in names), '')


def _checkpoint_hook(run: Run) -> Mapping[str, Any]:
    hooks = run.config.values.get('default_hooks')
    hook = hooks.get('checkpoint') if isinstance(hooks, dict) else None
    return hook if isinstance(hook, dict) else {}


def _take_metric(row: Row, run: Run, comparison: Comparison) -> None:
    last = run.scalars.last(comparison.metric)
    best = run.scalars.best(comparison.metric, comparison.lower)
    if last is not None:
        row.last.append(last)
    if best is not None:
        row.best.append(best)
    tested = run.tested.get(comparison.metric)
    if tested is not None and math.isfinite(tested):
        row.tested.append(tested)


def _close_gaps(found: Comparison) -> None:
    """(distilled - alone) / (teacher - alone), of the means by which the rows are compared."""
    distilled = [row for row in found.of(DISTILLED) if row.mean is not None]
    ends = {role: [row for row in found.of(role) if row.mean is not None] for role in (TEACHER, ALONE)}
    if not distilled:
        found.why_no_gap = 'no distilled run has a validation, and not each run a test' if found.of(DISTILLED) else ''
        return
    for role, flag in ((TEACHER, '--teacher'), (ALONE, '--alone')):
        if len(ends[role]) != 1:
            found.why_no_gap = (f'there are {len(ends[role])} configs of the {role}' if ends[role] else
                                f'the metric of the {role} is not known: give {flag} WORK_DIR, or the number')
            return
    teacher, alone = (ends[role][0].mean for role in (TEACHER, ALONE))
    assert teacher is not None, 'those without are not among them'
    assert alone is not None, 'those without are not among them'
    if found.better(teacher, alone) <= 0:
        found.why_no_gap = 'the teacher is no better than the student alone'
        return
    for row in distilled:
        assert row.mean is not None, 'those without are not among them'
        row.gap = found.better(row.mean, alone) / found.better(teacher, alone)
