"""``mmkd env``: what is installed, and what is missing for which task.

Imports nothing of the package, which could not be imported where something is missing.
"""
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Dict, List, NamedTuple, Optional, Sequence

from rich.console import Console
from rich.table import Table

WIDE = 160
"""Columns where the output goes to a file or a pipe."""


class Need(NamedTuple):
    """A package.

    Attributes:
        name: as pip knows it.
        module: as Python imports it.
        least: the oldest version that is known to work, '' where none is known.
        also: another package that brings the same module, '' where there is none.
    """
    name: str
    module: str
    least: str = ''
    also: str = ''


BASE = (Need('torch', 'torch', '2.6'), Need('mmengine', 'mmengine', '0.10.7'), Need('mmcv', 'mmcv', '2.0', also='mmcv-lite'),
        Need('scipy', 'scipy'), Need('numpy', 'numpy'))
OPERATORS = Need("mmcv's operators", 'mmcv._ext')
TASKS: Dict[str, Sequence[Need]] = dict(
    classification=(Need('mmpretrain', 'mmpretrain', '1.2'), Need('torchvision', 'torchvision')),
    segmentation=(Need('mmsegmentation', 'mmseg', '1.2'), Need('ftfy', 'ftfy'), Need('regex', 'regex')),
    detection=(Need('mmdet', 'mmdet', '3.3'), OPERATORS, Need('pycocotools', 'pycocotools')),
    pictures=(Need('matplotlib', 'matplotlib'),),
    demo=(Need('scikit-learn', 'sklearn'), Need('pillow', 'PIL')))
HINTS = {'mmcv': 'pip install mmcv-lite, or mmcv for detection: see "Installation" in the README',
         OPERATORS.name: 'MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2.1.0, see "Installation" in the README'}


def env() -> None:
    """Prints the versions of what is installed, and for each task what it lacks."""
    out = Console(width=None if sys.stdout.isatty() else WIDE)
    out.print(f'Python {platform.python_version()} ({sys.executable}), {platform.platform()}', markup=False, highlight=False)
    table = Table('task', 'ready', 'installed', 'missing')
    for task, needs in {'every task': BASE, **TASKS}.items():
        lacking = [need for need in needs if installed(need) is None or old(need)]
        there = [f'{need.name} {installed(need)}'.strip() for need in needs if need not in lacking]
        missing = list(map(_missing, lacking))
        table.add_row(task, 'no' if missing else 'yes', ', '.join(there), '; '.join(missing))
    out.print(table)


def installed(need: Need) -> Optional[str]:
    """The version of a package, with its name where that is not ``need.name``; '' where it has none; None without it.

    The placeholder that `tools/setup_env.sh` puts where mmcv's operators would be does not count as them.
    """
    try:
        spec = find_spec(need.module)
    except (ImportError, ValueError):
        return None
    if spec is None or need is OPERATORS and str(spec.origin).endswith('.py'):
        return None
    for name in filter(None, (need.name, need.also)):
        try:
            return version(name) if name == need.name else f'{version(name)} ({name})'
        except PackageNotFoundError:
            continue
    return ''


def old(need: Need) -> bool:
    """Whether an older version is installed than the oldest that is known to work."""
    found = installed(need)
    return bool(found) and bool(need.least) and _numbers(str(found)) < _numbers(need.least)


def _numbers(text: str) -> List[int]:
    return [int(part) for part in text.split()[0].split('+')[0].split('.') if part.isdigit()]


def _missing(need: Need) -> str:
    found = installed(need)
    if found:
        return f'{need.name} {found} is older than {need.least}'
    return f'{need.name} ({HINTS.get(need.name, f"pip install {need.name}")})'
