"""Outcomes: what a report about an input comes to."""
import re
from typing import List, Tuple

from .child import Report
from .inputs import Input
from .mutations import Unchanged

GOOD = ('REFUSED', 'MM_ERROR', 'ACCEPTED')
BAD = ('BROKEN', 'NONSENSE', 'TRACEBACK', 'UNCLEAR', 'CRASH', 'HANG', 'MEMORY', 'EXECUTED')
OUTCOMES = (*GOOD, *BAD)
"""REFUSED: one DistillationError that names the key and says what to do. MM_ERROR: an error that mm raises for the same
mistake without this package, or that names the key, for a key that is mm's own. ACCEPTED: trained, as documented.
The others are defects: whole and refused, accepted against the documentation, another exception, an error that does
not name the key or says nothing of what to do, a signal, more than 20 s, more than 2 GB, code of a file that ran."""

MOST_MEGABYTES = 2048
LONGEST_MESSAGE = 6000
PACKAGE = re.compile(r'/mmkd_plugin/')
LIBRARY = re.compile(r'/(site-packages|dist-packages|lib/python3\.\d+)/|^<')


def judged(one: Input, report: Report) -> Tuple[str, List[str]]:
    """The outcome of an input, and why, where it is a bad one."""
    if report.kind == 'hung':
        return 'HANG', ['took more than 20 s']
    if report.megabytes > MOST_MEGABYTES:
        return 'MEMORY', [f'took {report.megabytes:.0f} MB']
    if report.text.startswith('EXECUTED'):
        return 'EXECUTED', ['code of the file ran']
    if report.kind != 'done' and all(isinstance(mutation, Unchanged) for mutation in one.mutations):
        return 'BROKEN', ['nothing was changed']
    if report.kind == 'crashed':
        return 'CRASH', [report.text]
    if report.kind == 'refused':
        wrong = unclear(one, report)
        return ('UNCLEAR', wrong) if wrong else ('REFUSED', [])
    if report.kind == 'done':
        wrong = one.legitimate(report.facts)
        return ('NONSENSE', wrong) if wrong else ('ACCEPTED', [])
    return _of_another_exception(one, report)


def unclear(one: Input, report: Report) -> List[str]:
    """What a message lacks."""
    wrong = []
    if not named(one, report.text) and (one.ours or 'NaN or infinity' not in report.text):
        wrong.append(f'names none of {one.names}')
    # mm's own reason, in a message of this package, is what mm would have said.
    advises = any(report.said.get(part) for part in ('accepted', 'nearest', 'hint')) or 'Accepted:' in report.text
    if one.ours and not advises:
        wrong.append('says neither what is accepted nor what to do')
    if len(report.text) > LONGEST_MESSAGE:
        wrong.append(f'has {len(report.text)} characters')
    return wrong


def named(one: Input, text: str) -> bool:
    """Whether a message names what was changed."""
    return any(re.search(rf'(?<!\w){re.escape(name)}(?!\w)', text) for name in one.names if name)


def _of_another_exception(one: Input, report: Report) -> Tuple[str, List[str]]:
    if not one.ours and not from_package(report) and named(one, report.text):
        return 'MM_ERROR', []
    return 'TRACEBACK', [f'{report.error}: {report.text[:300]}', f'innermost of the package: {innermost(report)}']


def from_package(report: Report) -> bool:
    """Whether the code that raised is this package's (libraries below it may have raised on its behalf)."""
    own = [frame for frame in report.frames if not LIBRARY.search(frame[0])]
    return bool(own) and PACKAGE.search(own[-1][0]) is not None and report.frames[-1] == own[-1]


def innermost(report: Report) -> str:
    """File, line and function of the innermost frame of this package."""
    own = [frame for frame in report.frames if PACKAGE.search(frame[0]) and not LIBRARY.search(frame[0])]
    return f'{own[-1][0].rpartition("/mmkd_plugin/")[2]}:{own[-1][1]} {own[-1][2]}' if own else 'none'
