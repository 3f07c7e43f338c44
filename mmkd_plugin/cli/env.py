"""``mmkd env``: what is installed, and what is missing for which task.

Imports nothing of the package, which could not be imported where something is missing.
"""
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

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
        also: other packages that bring the same module.
    """
    name: str
    module: str
    least: str = ''
    also: Tuple[str, ...] = ()


MMENGINE = Need('mmengine', 'mmengine', '0.10.3', also=('onedl-mmengine',))
MMCV = Need('mmcv', 'mmcv', '2.0', also=('mmcv-lite', 'onedl-mmcv'))
BASE = (Need('torch', 'torch', '2.1'), MMENGINE, MMCV, Need('scipy', 'scipy'), Need('numpy', 'numpy'))
OPERATORS = Need("mmcv's operators", 'mmcv._ext')
TASKS: Dict[str, Sequence[Need]] = dict(
    classification=(Need('mmpretrain', 'mmpretrain', '1.2', also=('onedl-mmpretrain',)), Need('torchvision', 'torchvision')),
    segmentation=(Need('mmsegmentation', 'mmseg', '1.2', also=('onedl-mmsegmentation',)), Need('ftfy', 'ftfy'),
                  Need('regex', 'regex')),
    detection=(Need('mmdet', 'mmdet', '3.3', also=('onedl-mmdetection',)), OPERATORS, Need('pycocotools', 'pycocotools')),
    pictures=(Need('matplotlib', 'matplotlib'),),
    demo=(Need('scikit-learn', 'sklearn'), Need('pillow', 'PIL')))
HINTS = {'mmcv': 'pip install mmcv-lite, or mmcv for detection: see "Installation" in the README',
         OPERATORS.name: 'MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2.1.0, see "Installation" in the README'}

BOUND = re.compile(r"^mmcv_max(?:imum_version)? = '([\d.]+)'", re.MULTILINE | re.IGNORECASE)
"""How a codebase says in its ``__init__`` which mmcv is too new for it."""


def env() -> None:
    """Prints the versions of what is installed, and for each task what it lacks."""
    out = Console(width=None if sys.stdout.isatty() else WIDE)
    out.print(f'Python {platform.python_version()} ({sys.executable}), {platform.platform()}', markup=False, highlight=False)
    table = Table('task', 'ready', 'installed', 'missing')
    for task, needs in {'every task': BASE, **TASKS}.items():
        lacking = [need for need in needs if installed(need) is None or old(need)]
        there = [f'{need.name} {installed(need)}'.strip() for need in needs if need not in lacking]
        missing = [*map(_missing, lacking), *filter(None, map(refused_mmcv, needs)), *filter(None, map(lost_module, needs))]
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
    for name in (need.name, *need.also):
        try:
            return version(name) if name == need.name else f'{version(name)} ({name})'
        except PackageNotFoundError:
            continue
    return ''


def old(need: Need) -> bool:
    """Whether an older version is installed than the oldest that is known to work."""
    found = installed(need)
    return bool(found) and bool(need.least) and _numbers(str(found)) < _numbers(need.least)


def refused_mmcv(need: Need) -> str:
    """What a codebase has against the mmcv that is installed, '' where nothing: its code says which is too new.

    mmdet 3.3 and mmsegmentation 1.2 stop their own import with mmcv 2.2.
    """
    spec, found = find_spec(need.module) if '.' not in need.module else None, installed(MMCV)
    if spec is None or not spec.origin or not spec.origin.endswith('.py') or not found:
        return ''
    said = BOUND.search(Path(spec.origin).read_text(errors='replace'))
    if said is None or _numbers(found) < _numbers(said[1]):
        return ''
    return f'{need.name} {installed(need)} refuses mmcv {found} (pip install "mmcv<{said[1]}", or "mmcv-lite<{said[1]}")'


def lost_module(need: Need) -> str:
    """What mmengine imports and does not ask for: ``pkg_resources``, which setuptools has up to 81; '' where it is there.

    Without it no base is found that a config names by its codebase, such as ``mmseg::path``. OneDL's mmengine does without.
    """
    spec = find_spec(need.module) if need is MMENGINE else None
    reader = Path(str(spec.origin)).parent / 'utils/package_utils.py' if spec else None
    if reader is None or not reader.is_file() or 'import pkg_resources' not in reader.read_text(errors='replace'):
        return ''
    return '' if find_spec('pkg_resources') else f'pkg_resources, which {need.name} imports (pip install "setuptools<82")'


def _numbers(text: str) -> List[int]:
    return [int(part) for part in text.split()[0].split('+')[0].split('.') if part.isdigit()]


def _missing(need: Need) -> str:
    found = installed(need)
    if found:
        return f'{need.name} {found} is older than {need.least}'
    return f'{need.name} ({HINTS.get(need.name, f"pip install {need.name}")})'
