"""What a check finds, and the table of all checks: a further check is one function."""
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Dict, Iterable, List, Sequence

from mmengine.logging import print_log

from ..utils.errors import DistillationError, shortened

if TYPE_CHECKING:
    from .setup import Setup

GRADES = ('error', 'warning', 'advice')
"""From what makes a run fail, or not worth its time, to what may be meant so."""
NEEDS = ('config', 'models', 'run')
"""What a check looks at: the config alone; student and teachers with the taps between them; a few measured iterations."""


@dataclass(frozen=True)
class Finding:
    """One thing that somebody should know before training.

    Attributes:
        grade: one of ``GRADES``.
        key: the key of the config to change, as a user would write it.
        what: what was found.
        fix: what to do.
        check: the name of the check that has found it.
    """
    grade: str
    key: str
    what: str
    fix: str
    check: str = ''

    def __str__(self) -> str:
        text = ' '.join(part if part[-1] in '.?!' else f'{part}.' for part in (self.what, self.fix) if part)
        return f'{self.key}: {text}' if self.key else text


def error(key: str, what: str, fix: str) -> Finding:
    """What makes a run fail, or not worth its time."""
    return Finding('error', key, what, fix)


def warning(key: str, what: str, fix: str) -> Finding:
    """What is hardly ever meant so."""
    return Finding('warning', key, what, fix)


def advice(key: str, what: str, fix: str) -> Finding:
    """What may be meant so."""
    return Finding('advice', key, what, fix)


def counted(grades: Sequence[str]) -> str:
    """How many there are of each grade, in words: ``'1 error, 0 warnings, 2 pieces of advice'``."""
    named = dict(error=('error', 'errors'), warning=('warning', 'warnings'), advice=('piece of advice', 'pieces of advice'))
    return ', '.join(f'{grades.count(grade)} {named[grade][grades.count(grade) != 1]}' for grade in GRADES)


def finding_of(raised: DistillationError, check: str) -> Finding:
    """An error as a finding: its key, what is wrong, and what is accepted."""
    fix = str(DistillationError(nearest=raised.nearest, accepted=raised.accepted, hint=raised.hint))
    whole = str(raised).removeprefix(f'{raised.path}: ')
    return Finding('error', raised.path, whole.removesuffix(fix).strip() or whole, fix, check)


Look = Callable[['Setup'], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        name: what it is called in reports and in docs/check.md.
        look: yields findings about a setup.
        needs: one of ``NEEDS``; it is only called with what it needs.
        at_start: whether it is made, too, when a distilled training begins; those that need a run are not.
    """
    name: str
    look: Look
    needs: str
    at_start: bool


CHECKS: Dict[str, Check] = {}
"""All checks by name, in the order in which they are made."""


def check(needs: str, at_start: bool = True) -> Callable[[Look], Look]:
    """Puts a function into the table; its name is the check's.

    Args:
        needs: one of ``NEEDS``.
        at_start: whether it is made, too, when a distilled training begins. Not where that is said elsewhere already.
    """
    assert needs in NEEDS

    def register(look: Look) -> Look:
        name = look.__name__.replace('_', '-')
        CHECKS[name] = Check(name, look, needs, at_start and needs != 'run')
        return look

    return register


def look(setup: 'Setup', at_start: bool = False) -> List[Finding]:
    """What all checks find in a setup, as far as it has what they need.

    A check that fails itself, with a config that nobody has thought of, is said and left out: it must not end a run.

    Args:
        setup: what is looked at.
        at_start: only those that are made when a training begins.
    """
    found: List[Finding] = []
    for each in CHECKS.values():
        if each.needs not in setup.has or (at_start and not each.at_start):
            continue
        try:
            found += [replace(finding, check=each.name) for finding in each.look(setup)]
        except Exception as failure:  # noqa: BLE001 (see above)
            print_log(f'preflight: the check {each.name} could not be made ({shortened(repr(failure))})', 'current',
                      level=logging.WARNING)
    return found


def sorted_by_grade(findings: Iterable[Finding]) -> List[Finding]:
    """Errors first; those of one grade in the order in which they were found."""
    return sorted(findings, key=lambda finding: GRADES.index(finding.grade))
