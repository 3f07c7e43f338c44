"""Accuracy tables as markdown: what each row came to, what that is beside the student alone, and what it took."""
import statistics
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .accuracy import Row, Table
from .results import Cell, Results


@dataclass(frozen=True)
class Line:
    """A row of a table with its results, in the order of its seeds; None for those that are missing.

    Args:
        row: the row.
        cells: its results.
        scale: what values are shown times.
    """
    row: Row
    cells: Tuple[Optional[Cell], ...]
    scale: float = 1

    @property
    def values(self) -> List[float]:
        """The values that are there, as they are shown."""
        return [self.scale * cell.value for cell in self.cells if cell]

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return statistics.mean(self.values)

    @property
    def deviation(self) -> Optional[float]:
        """The standard deviation of the sample; None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def seconds(self) -> Optional[float]:
        """Seconds per iteration, the median of the cells that know it."""
        known = [cell.seconds_per_iteration for cell in self.cells if cell and cell.seconds_per_iteration is not None]
        return statistics.median(known) if known else None


def measured_lines(table: Table, results: Results) -> List[Line]:
    """The rows that have a result. Searches are left out: their students are not what a search is for."""
    found = [Line(row, tuple(results.get(row.name, {}).get(str(seed)) for seed in row.seeds), table.scale)
             for row in table.rows if row.stage == 'train']
    return [line for line in found if line.values]


def line_of(name: Optional[str], lines: Sequence[Line]) -> Optional[Line]:
    """The line of the row of a name, if there is one."""
    return next((line for line in lines if line.row.name == name), None)


def difference(line: Line, other: Line) -> Tuple[float, Optional[float]]:
    """The difference of two means, and its standard error, sqrt(s1^2 / n1 + s2^2 / n2); None where one has a single seed."""
    spreads = [each.deviation for each in (line, other)]
    if None in spreads:
        return line.mean - other.mean, None
    squares = sum((each.deviation or 0) ** 2 / len(each.values) for each in (line, other))
    return line.mean - other.mean, float(squares ** 0.5)


def gap_closed(line: Line, alone: Line, teacher: Line) -> Optional[float]:
    """(distilled - alone) / (teacher - alone) of the means; None where the teacher is not above the student alone."""
    gap = teacher.mean - alone.mean
    return (line.mean - alone.mean) / gap if gap > 0 else None


def markdown(table: Table, results: Results) -> str:
    """A table of all rows that have a result; below it those that have none, and the commits of the cells that kept it.

    Beside mean, standard deviation (of the sample) and every seed stand, where they are known: the difference to the
    student alone with its standard error, the part of the gap to the teacher that this is, and seconds per iteration.
    """
    lines = measured_lines(table, results)
    alone, teacher = line_of(table.alone_name, lines), line_of(table.teacher_name, lines)
    heads = ['', f'{table.metric} ({table.split}), mean', 'standard deviation', 'each seed']
    heads += ['over alone'] if alone else []
    heads += ['gap closed'] if alone and teacher else []
    timed = any(line.seconds for line in lines)
    heads += ['s / iteration'] if timed else []
    rows = []
    for line in lines:
        row = _measured(line)
        if alone:
            row.append('' if line is alone else _over(line, alone))
        if alone and teacher:
            row.append('' if line in (alone, teacher) else _gap(line, alone, teacher))
        if timed:
            row.append(f'{line.seconds:.3f}' if line.seconds else '-')
        rows.append(row)
    parts = ['\n'.join([_joined(heads), '|' + '---|' * len(heads), *map(_joined, rows)])] if rows else []
    waiting = [row.title for row in table.rows if row.stage == 'train' and not line_of(row.name, lines)]
    parts += [f'Not measured yet: {"; ".join(waiting)}.'] if waiting else []
    commits = sorted({cell.commit for line in lines for cell in line.cells if cell and cell.commit})
    parts += [f'Cells of which the commit was kept: {", ".join(f"`{each}`" for each in commits)}.'] if commits else []
    return '\n\n'.join(parts)


def _measured(line: Line) -> List[str]:
    spread = '-' if line.deviation is None else f'{line.deviation:.2f}'
    seeds = ', '.join(f'{line.scale * cell.value:.2f}' if cell else '-' for cell in line.cells)
    return [line.row.title, f'{line.mean:.2f}', spread, seeds]


def _over(line: Line, alone: Line) -> str:
    gain, error = difference(line, alone)
    return f'{gain:+.2f}' + ('' if error is None else f' ± {error:.2f}')


def _gap(line: Line, alone: Line, teacher: Line) -> str:
    closed = gap_closed(line, alone, teacher)
    return '-' if closed is None else f'{100 * closed:.0f} %'


def _joined(cells: Sequence[str]) -> str:
    return '|' + ''.join(' ' + cell.replace('|', r'\|') + ' |' if cell else ' |' for cell in cells)
