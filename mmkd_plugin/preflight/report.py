"""What a check says: as text for a terminal, as data for a script."""
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from .findings import Finding, counted, sorted_by_grade
from .measured import Measured
from .setup import Setup

CODES = dict(error=2, warning=1, advice=0)
"""By the worst grade that was found, what the command exits with."""


@dataclass(frozen=True)
class TapRow:
    """What one feature of the student is compared with.

    Attributes:
        distiller: the name of the distiller.
        student, teacher: addresses; where the teacher has several, the last.
        student_shape, teacher_shape: (C, H, W) in the dry run, or (C,).
        student_stride, teacher_stride: how many pixels of the image a cell stands for, in height; None for a vector.
        ratio: the distiller's gradient over the task loss's at the student's tap, with the scale that a calibration over
            these iterations finds; None where it was not measured.
        cosine: that of the angle between the two gradients.
    """
    distiller: str
    student: str
    teacher: str
    student_shape: Sequence[int]
    teacher_shape: Sequence[int]
    student_stride: Optional[float]
    teacher_stride: Optional[float]
    ratio: Optional[float] = None
    cosine: Optional[float] = None


@dataclass
class Report:
    """What a check has found.

    Attributes:
        config: the name of the config.
        findings: what somebody should know before training.
        taps: what is compared with what.
        measured: what a few iterations have shown; None where none could be run.
        left_out: what could not be looked at, and why.
        iterations: how many iterations the training has; None where that is not known.
        looked_at: 'training', or 'search' where that has to come first.
    """
    config: str
    findings: List[Finding] = field(default_factory=list)
    taps: List[TapRow] = field(default_factory=list)
    measured: Optional[Measured] = None
    left_out: Dict[str, str] = field(default_factory=dict)
    iterations: Optional[int] = None
    looked_at: str = 'training'

    @property
    def exit_code(self) -> int:
        """For scripts: 2 with errors, 1 with warnings, 0 with advice or nothing."""
        return max((CODES[finding.grade] for finding in self.findings), default=0)

    def add(self, findings: Sequence[Finding]) -> None:
        """Adds findings, each once."""
        self.findings += [finding for finding in findings if finding not in self.findings]

    def add_failure(self, failure: Finding) -> None:
        """Adds what ended the building or the short run, unless an error about its key has been found before."""
        if not any(other.grade == 'error' and _same_key(other.key, failure.key) for other in self.findings):
            self.findings.append(failure)

    def as_dict(self) -> Dict[str, Any]:
        """Plain values, for JSON."""
        measured = None
        if self.measured is not None:
            names = [name for name in self.measured.ratios if isinstance(name, str)]
            measured = dict(
                iterations=self.measured.iterations, batch=list(self.measured.size), seconds=self.measured.seconds,
                overhead=self.measured.overhead, memory_mib=self.measured.memory,
                gradients={name: dict(ratio=self.measured.ratio(name), cosine=self.measured.cosine(name),
                                      scale=self.measured.scale(name)) for name in names},
                teachers=[asdict(score) for score in self.measured.scores])
        return dict(config=self.config, looked_at=self.looked_at, exit_code=self.exit_code, iterations=self.iterations,
                    findings=[asdict(finding) for finding in sorted_by_grade(self.findings)],
                    taps=[asdict(row) for row in self.taps], measured=measured, left_out=self.left_out)

    def json(self) -> str:
        """The same as text."""
        return json.dumps(self.as_dict(), indent=2, default=str)

    def text(self) -> str:
        """For a terminal: the taps, what was measured, and what was found, the worst first."""
        taps = [f'{self.config}: what its {self.looked_at} compares', *_tap_lines(self.taps)] if self.taps else [
            f'{self.config}: no pair of taps could be looked at']
        lines = [*taps, *self._measured_lines()]
        lines += [f'not looked at: {what} ({why})' for what, why in self.left_out.items()]
        lines += [f'{finding.grade.upper():8}{finding}  [{finding.check}]' for finding in sorted_by_grade(self.findings)]
        grades = [finding.grade for finding in self.findings]
        return '\n'.join([*lines, f'found: {counted(grades)}'])

    def _measured_lines(self) -> List[str]:
        measured = self.measured
        if measured is None:
            return []
        lines = [f'first batch: {"x".join(map(str, measured.size))}; {measured.iterations} iterations were run']
        seconds = measured.seconds
        if seconds is not None:
            whole = f', {seconds["distilled"] * self.iterations / 3600:.2g} h for all' if self.iterations else ''
            lines.append(f'an iteration: {seconds["distilled"]:.3g} s distilled, {seconds["plain"]:.3g} s alone '
                         f'(without loading images{whole})')
        if measured.memory.get('distilled', 0) >= 1:
            lines.append(f'peak memory of an iteration: {measured.memory["distilled"]:.0f} MiB distilled, '
                         f'{measured.memory["plain"]:.0f} MiB alone')
        for name in (name for name in measured.ratios if isinstance(name, str)):
            scale = measured.scale(name)
            found = (measured.ratio(name) or 0) * scale
            settled = '' if name not in measured.calibrated else (
                f", once loss_scale='auto' has found its scale: about {scale:.2g} by these iterations")
            lines.append(f'{name}: its gradient is {found:.2g} of the task loss\'s, cosine {measured.cosine(name):.2f}'
                         f'{settled}')
        for score in measured.scores:
            metrics = ', '.join(f'{name} {value:.4g}' for name, value in score.metrics.items())
            lines.append(f'{score.key} on {score.images} validation images: {metrics}' if not score.why_not else
                         f'{score.key} was not measured: {score.why_not}')
        return lines


def tap_rows(setup: Setup) -> List[TapRow]:
    """What is compared with what in a setup whose models are there."""
    rows = []
    for pair in setup.pairs:
        name = (pair.distiller, pair.student.address)
        height = setup.image_size[0]
        sides = [(info.address, [info.channels, *(info.size or ())], height / info.size[0] if info.size else None)
                 for info in (pair.student, pair.teacher[-1])]
        (ours, our_shape, our_stride), (theirs, their_shape, their_stride) = sides
        measured = setup.measured
        ratio = measured.ratio(name) if measured else None
        scaled = None if measured is None or ratio is None else ratio * measured.scale(pair.distiller)
        rows.append(TapRow(pair.distiller, ours, theirs, our_shape, their_shape, our_stride, their_stride, scaled,
                           measured.cosine(name) if measured else None))
    return rows


def _tap_lines(rows: Sequence[TapRow]) -> List[str]:
    """A table with columns of even width."""
    def shape(values: Sequence[int], stride: Optional[float]) -> str:
        return 'x'.join(map(str, values)) + (f' /{stride:g}' if stride is not None else '')

    table = [('distiller', 'student', 'shape /stride', 'teacher', 'shape /stride', 'gradient', 'cosine')]
    table += [(row.distiller, row.student, shape(row.student_shape, row.student_stride), row.teacher,
               shape(row.teacher_shape, row.teacher_stride), '' if row.ratio is None else f'{row.ratio:.2g}',
               '' if row.cosine is None else f'{row.cosine:.2f}') for row in rows]
    widths = [max(map(len, column)) for column in zip(*table)]
    return ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]


def _same_key(one: str, other: str) -> bool:
    """Whether two keys are of one place, or one lies below the other."""
    return one == other or bool(one and other) and (one.startswith(f'{other}.') or other.startswith(f'{one}.'))
