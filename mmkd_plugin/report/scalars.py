"""The numbers that a run has logged: mmengine's ``vis_data/scalars.json``, a JSON object a line.

A run that was killed leaves a line cut off, one that was resumed leaves several files that overlap.
"""
import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ..utils.files import lines_of

LONGEST_LINE, MOST_LINES, MOST_NAMES = 2 ** 20, 10 ** 6, 2000
"""Characters of a line, lines of a file, and names of numbers that are looked at; a run writes far fewer."""
WARMING_UP = 1
"""Logged times at the beginning that are left out: they hold what is done once."""
POSITIONS = ('step', 'iter', 'epoch')
"""Of a line, what says where it belongs."""


@dataclass
class Series:
    """Numbers over the course of a run.

    Attributes:
        steps: the iterations after which they were logged, rising.
        values: the numbers; NaN and infinite ones are kept.
    """
    steps: List[int] = field(default_factory=list)
    values: List[float] = field(default_factory=list)

    @property
    def finite(self) -> List[float]:
        """The values that are finite."""
        return [value for value in self.values if math.isfinite(value)]

    def later_half(self) -> List[float]:
        """The finite values of the later half of the run, at least one where there is any."""
        return self.finite[len(self.finite) // 2:]

    def cut_before(self, step: int) -> None:
        """Forgets what was logged at ``step`` or later."""
        kept = sum(there < step for there in self.steps)
        del self.steps[kept:], self.values[kept:]


@dataclass
class Scalars:
    """What a run has logged.

    Attributes:
        train: by name, what its iterations logged.
        validation: by name, the metrics of its validations.
        unread: lines that are no JSON objects.
    """
    train: Dict[str, Series] = field(default_factory=dict)
    validation: Dict[str, Series] = field(default_factory=dict)
    unread: int = 0

    @property
    def last_step(self) -> int:
        """The iteration that was logged last, 0 where none was."""
        return max((series.steps[-1] for series in self.train.values() if series.steps), default=0)

    @property
    def seconds(self) -> Optional[float]:
        """The median of an iteration's seconds; None where they were not logged."""
        return _middle(self.train.get('time'))

    @property
    def waiting(self) -> Optional[float]:
        """The median of the seconds that an iteration waits for images."""
        return _middle(self.train.get('data_time'))

    @property
    def memory(self) -> Optional[float]:
        """The most MiB that were taken on a GPU; None where there was none."""
        values = self.train['memory'].finite if 'memory' in self.train else []
        return max(values, default=0) or None

    def last(self, metric: str) -> Optional[float]:
        """A metric at the last validation; None where there is none, or it is not finite."""
        values = self.validation[metric].values if metric in self.validation else []
        return values[-1] if values and math.isfinite(values[-1]) else None

    def best(self, metric: str, lower: bool) -> Optional[Tuple[float, int]]:
        """A metric at its best validation, with the iteration.

        Args:
            metric: its name.
            lower: whether less is better.
        """
        series = self.validation.get(metric, Series())
        there = [(value, step) for value, step in zip(series.values, series.steps) if math.isfinite(value)]
        return sorted(there, key=lambda pair: pair[0], reverse=not lower)[0] if there else None

    def add(self, line: Mapping[str, Any]) -> None:
        """Takes one line."""
        step = _whole(line.get('step'))
        if 'iter' in line or 'loss' in line:
            self._keep(self.train, line, _whole(line.get('iter')) if step is None else step)
        else:  # by epochs, the step of a validation is an epoch
            self._keep(self.validation, line, max(step or 0, self.last_step))

    def cut_before(self, step: int) -> None:
        """Forgets what was logged at an iteration or later: the run was resumed from before it."""
        for series in self.train.values():
            series.cut_before(step)
        for series in self.validation.values():
            series.cut_before(step)

    @staticmethod
    def _keep(there: Dict[str, Series], line: Mapping[str, Any], step: Optional[int]) -> None:
        for name, value in line.items():
            if name in POSITIONS or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if step is None or (name not in there and len(there) >= MOST_NAMES):
                continue
            series = there.setdefault(name, Series())
            series.steps.append(step)
            series.values.append(_as_float(value))


def read_scalars(files: Iterable[Path]) -> Scalars:
    """What one run has logged, in one file or, where it was resumed, in several.

    Args:
        files: those of one run, the oldest first. What a later file has again counts as it is there.
    """
    found = Scalars()
    for file in files:
        for line in lines_of(file, MOST_LINES, LONGEST_LINE):
            content = parsed_object(line)
            if content is None:
                found.unread += bool(line.strip())
                continue
            step = _whole(content.get('step'))
            if step is not None and ('iter' in content or 'loss' in content) and step <= found.last_step:
                found.cut_before(step)  # resumed, or begun anew
            found.add(content)
    return found


def last_numbers(files: Iterable[Path]) -> Dict[str, float]:
    """The numbers of the last object in JSON-lines files, the oldest first, without times; empty where there is none."""
    found: Dict[str, float] = {}
    for file in files:
        for line in lines_of(file, MOST_LINES, LONGEST_LINE):
            content = parsed_object(line)
            if content:
                found = numbers_in(content)
    return found


def numbers_in(content: Mapping[Any, Any]) -> Dict[str, float]:
    """The numbers of an object by name, without places and times."""
    return {str(name): _as_float(value) for name, value in content.items() if name not in (
        *POSITIONS, 'time', 'data_time') and isinstance(value, (int, float)) and not isinstance(value, bool)}


def parsed_object(line: str) -> Optional[Dict[str, Any]]:
    """The JSON object that a text is; None where it is none."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _whole(value: Any) -> Optional[int]:
    return value if type(value) is int and 0 <= value < 2 ** 53 else None


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # digits without end
        return math.inf



def summed(parts: Iterable[Series]) -> Series:
    """The sum of several, at the steps that all of them have."""
    tables = [dict(zip(part.steps, part.values)) for part in parts]
    if not tables:
        return Series()
    steps = sorted(set(tables[0]).intersection(*tables[1:]))
    return Series(steps, [math.fsum(_finite_or_nan(table[step]) for table in tables) for step in steps])


def _finite_or_nan(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _middle(series: Optional[Series]) -> Optional[float]:
    values = series.finite if series is not None else []
    values = values[WARMING_UP:] or values
    return statistics.median(values) if values else None
