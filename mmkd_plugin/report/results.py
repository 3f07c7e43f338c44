"""What the cells of an accuracy table came to: a JSON file ``{row: {seed: cell}}``, written after every cell.

A cell is a dict of what :class:`Cell` holds, without what is not known. One of which only the value is known is that number
alone: so all were written once.
"""
import json
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..utils.errors import DistillationError, check_known_keys
from ..utils.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
TRAINED = ('mmkd_plugin', 'configs', 'tools', 'benchmarks/tables')
"""What of a checkout decides the result of a cell."""


@dataclass(frozen=True)
class Cell:
    """The result of one training, or search.

    Args:
        value: the metric, as the evaluator logged it.
        seconds_per_iteration: by the clock, beside whatever else ran; see :func:`seconds_per_iteration`.
        commit: what it was trained at, see :func:`commit`.
    """
    value: float
    seconds_per_iteration: Optional[float] = None
    commit: Optional[str] = None


Results = Dict[str, Dict[str, Cell]]
"""By the name of the row, then by the seed."""


def read_results(path: Path) -> Results:
    """The results in a file; none where there is no file.

    Raises:
        DistillationError: for what is not JSON, or a cell that is neither a number nor a dict with a value.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        rows = {name: dict(cells) for name, cells in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DistillationError(f'holds no results ({error})', path=str(path), accepted='{row: {seed: cell}}') from None
    return {name: {seed: _cell(cell, f'{path}: {name}.{seed}') for seed, cell in cells.items()}
            for name, cells in rows.items()}


def _cell(content: Any, place: str) -> Cell:
    known = content if isinstance(content, dict) else dict(value=content)
    check_known_keys(place, known, Cell.__annotations__)
    if isinstance(known.get('value'), bool) or not isinstance(known.get('value'), (int, float)):
        raise DistillationError('is no result', path=place, given=content, accepted='a number, or a dict with a value')
    return Cell(**known)


def write_results(path: Path, results: Results) -> None:
    """Writes all results, in one go."""
    content = {name: {seed: _content(cell) for seed, cell in cells.items()} for name, cells in results.items()}
    write_whole(path, json.dumps(content, indent=2, sort_keys=True) + '\n')


def _content(cell: Cell) -> Any:
    known = {key: value for key, value in asdict(cell).items() if value is not None}
    return known if len(known) > 1 else cell.value


def seconds_per_iteration(folder: Path) -> Optional[float]:
    """What an iteration of the training in a work dir took by the clock: the median of the ``time`` that was logged.

    The first that each start of it logged is left out: memory is allocated and formats are chosen then. None where no
    other was logged.
    """
    found: List[float] = []
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found += [line['time'] for line in lines if 'iter' in line and 'time' in line][1:]  # a validation has no iter
    return statistics.median(found) if found else None


def commit() -> Optional[str]:
    """The commit of the checkout that this package is part of, with a ``+`` where code, configs or tables differ from it.

    None outside of a checkout, or without git.
    """
    try:
        top, name = _git('rev-parse', '--show-toplevel', '--short=12', 'HEAD').splitlines()
        if Path(top).resolve() != ROOT:
            return None  # of somebody else's repository, in which the package is installed
        return name + ('+' if _git('status', '--porcelain', '--', *TRAINED).strip() else '')
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(['git', '-C', str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout
