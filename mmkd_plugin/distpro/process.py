"""The process file: the importance of every pathway over a search, written once, checked when read, stretched to any length.

JSON, readable, nothing in it is executed::

    {"format": "mmkd.process", "version": 1,
     "pathways": [{"teacher": "backbone.layer1@preact", "student": "backbone.layer2@preact", "transform": "conv1"}, ...],
     "normalisation": "biased_softmax", "bias": 1.0, "tau": 0.5,
     "unit": "iter", "length": 12480, "every": 4,
     "meta": {...},
     "importance": [[1.0, 1.0, ...], ...]}

``importance`` holds a_t (P numbers, unnormalised) at positions 0, every, 2 * every, ... and at the last, length - 1.
"""
import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor

from ..core.errors import DistillationError, check_known_keys
from ..core.files import write_whole
from .pathways import Pathway
from .weights import NORMALISATIONS

FORMAT, VERSION = 'mmkd.process', 1
UNITS = ('iter', 'epoch')
SIDES = ('teacher', 'student', 'transform')
DECIMALS = 6
BYTES_PER_NUMBER = 12  # sign, two digits, the decimals, separator


@dataclass(frozen=True)
class Process:
    """A^p = {a_t^p}: how the importance of P pathways went over a search.

    Attributes:
        pathways: in the order of the columns.
        normalisation, bias, tau: how importance becomes weights; see :mod:`~mmkd_plugin.distpro.weights`.
        importance: (N, P) float64, the recorded a_t.
        length: T_search, in ``unit`` s.
        every: distance between records; the last may be nearer.
        unit: ``'iter'`` or ``'epoch'``.
        meta: where it comes from: data set, networks, versions, seed, date.
    """
    pathways: List[Pathway]
    normalisation: str
    bias: float
    tau: Optional[float]
    importance: Tensor
    length: int
    every: int = 1
    unit: str = 'iter'
    meta: Dict[str, Any] = field(default_factory=dict)

    @property
    def positions(self) -> List[int]:
        return record_positions(self.length, self.every)

    def at(self, step: int, steps: int) -> Tensor:
        """Importance (P,) at ``step`` (from 0) of a run of ``steps``; see :func:`interpolate`."""
        return interpolate(self.importance, self.positions, step, steps)

    def digest(self) -> str:
        """A short hash of what is replayed, for telling two processes apart; not of ``meta``, which has the date."""
        return hashlib.sha256(replace(self, meta={}).to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        head = dict(format=FORMAT, version=VERSION, pathways=[vars(pathway) for pathway in self.pathways],
                    normalisation=self.normalisation, bias=self.bias, tau=self.tau, unit=self.unit, length=self.length,
                    every=self.every, meta=self.meta)
        lines = [f' {json.dumps(key)}: {json.dumps(value)}' for key, value in head.items() if key != 'pathways']
        pathways = ',\n'.join(f'  {json.dumps(pathway)}' for pathway in head['pathways'])
        records = ',\n'.join('  ' + json.dumps([round(value, DECIMALS) for value in record])
                             for record in self.importance.tolist())
        lines[2:2] = [f' "pathways": [\n{pathways}]']
        return '{\n' + ',\n'.join([*lines, f' "importance": [\n{records}]']) + '\n}\n'

    def write(self, path: Path) -> None:
        write_whole(path, self.to_json())


def record_positions(length: int, every: int) -> List[int]:
    """0, every, 2 * every, ..., and length - 1."""
    return [*range(0, length - 1, every), length - 1]


def choose_every(length: int, pathways: int, limit: int = 10 ** 6) -> int:
    """The least distance between records that keeps a file below ``limit`` bytes."""
    records = max(2, limit // (BYTES_PER_NUMBER * pathways + 8))
    return max(1, math.ceil((length - 1) / (records - 2))) if records > 2 else max(1, length - 1)


def interpolate(importance: Tensor, positions: Sequence[int], step: int, steps: int) -> Tensor:
    """Linear interpolation of a process, stretched from its own length to ``steps``; in a, before normalising (section 3.3).

    Step t of T reads position ``t * (T_search - 1) / (T - 1)``; T = 1 reads the first; beyond the end the last value holds.

    Args:
        importance: (N, P).
        positions: (N,) ascending, from 0 to T_search - 1.
        step, steps: t and T.

    Returns:
        (P,) in the dtype of ``importance``.
    """
    if steps == 1 or len(positions) == 1:
        return importance[0]
    place = min(step, steps - 1) * positions[-1] / (steps - 1)
    # Records are equidistant but for the last.
    left = min(int(place / positions[1]), len(positions) - 2)
    share = (place - positions[left]) / (positions[left + 1] - positions[left])
    return importance[left] + (importance[left + 1] - importance[left]) * share


def read_process(path: str, key: str) -> Process:
    """Reads and checks a process file.

    Args:
        path: of the file.
        key: the config key it stands under, for messages.

    Raises:
        DistillationError: if it is missing, truncated, of another version, or holds anything but finite numbers in the
            right places.
    """
    file = Path(path) if isinstance(path, (str, Path)) and str(path) else None
    if file is None or not file.is_file():
        raise DistillationError(f'{key}: file {path!r} not found (working directory {Path.cwd()}). Accepted: the '
                                'process.json that a search has written. Modes without one: equal, constant, search.')

    def refuse_constant(name):
        raise DistillationError(f'{key}: {str(path)!r} holds {name}. Accepted: finite numbers.')
    try:
        content = json.loads(file.read_text(), parse_constant=refuse_constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DistillationError(f'{key}: {str(path)!r} is not a whole JSON file ({error}). Was its writing '
                                'interrupted?') from None
    return _parse(content, f'{key}: {str(path)!r}')


def _parse(content: Any, where: str) -> Process:
    def check(fits: bool, what: str, given: Any, accepted: str) -> None:
        if not fits:
            raise DistillationError(f'{where}: {what}. File: {given!r}. Accepted: {accepted}.')

    check(isinstance(content, dict) and content.get('format') == FORMAT, 'is not a process file',
          content.get('format') if isinstance(content, dict) else type(content).__name__, f'format {FORMAT!r}')
    check(content.get('version') == VERSION, 'has another version', content.get('version'), str(VERSION))
    keys = ('format', 'version', 'pathways', 'normalisation', 'bias', 'tau', 'unit', 'length', 'every', 'meta', 'importance')
    check_known_keys(where, content, keys)
    missing = [name for name in keys if name not in content]
    check(not missing, f'lacks {", ".join(missing)}', sorted(content), ', '.join(keys))
    pathways = content['pathways']
    check(isinstance(pathways, list) and pathways and all(
        isinstance(pathway, dict) and set(pathway) == set(SIDES) and all(isinstance(name, str) for name in pathway.values())
        for pathway in pathways), 'pathways', pathways, f'a list of objects with {", ".join(SIDES)}')
    check(content['normalisation'] in NORMALISATIONS, 'normalisation', content['normalisation'], ', '.join(NORMALISATIONS))
    check(_is_number(content['bias']), 'bias', content['bias'], 'a number')
    check(content['tau'] is None or _is_number(content['tau']), 'tau', content['tau'], 'a number or null')
    check(content['unit'] in UNITS, 'unit', content['unit'], ', '.join(UNITS))
    for name in ('length', 'every'):
        check(type(content[name]) is int and content[name] > 0, name, content[name], 'a whole number > 0')
    check(isinstance(content['meta'], dict), 'meta', content['meta'], 'an object')
    records, expected = content['importance'], len(record_positions(content['length'], content['every']))
    check(isinstance(records, list) and len(records) == expected, 'number of records',
          len(records) if isinstance(records, list) else type(records).__name__,
          f'{expected} (length {content["length"]}, one every {content["every"]}, and the last)')
    for number, record in enumerate(records):
        check(isinstance(record, list) and len(record) == len(pathways) and all(map(_is_number, record)),
              f'record {number}', record, f'{len(pathways)} finite numbers, one for each pathway')
    return Process([Pathway(**pathway) for pathway in pathways], content['normalisation'], content['bias'], content['tau'],
                   torch.tensor(records, dtype=torch.float64), content['length'], content['every'], content['unit'],
                   content['meta'])


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def rename(pathways: Sequence[Pathway], names: Dict[str, Dict[str, str]]) -> List[Pathway]:
    """Pathways with other taps and transforms, for replaying a process on other networks.

    Args:
        pathways: those of the file.
        names: ``teacher``, ``student`` and ``transform``, each a dict from the file's name to the new one.

    Raises:
        DistillationError: for a name that is not in the file.
    """
    check_known_keys('pathway_map', names, SIDES)
    for side, new in names.items():
        known = list(dict.fromkeys(getattr(pathway, side) for pathway in pathways))
        check_known_keys(f'pathway_map.{side}', new, known)
    return [Pathway(**{side: names.get(side, {}).get(name, name) for side, name in vars(pathway).items()})
            for pathway in pathways]


def check_pathways(file: Sequence[Pathway], config: Sequence[Pathway], key: str) -> None:
    """Raises :class:`DistillationError` unless both have the same pathways in the same order; prints both."""
    if list(file) == list(config):
        return
    reason = f'{len(file)} pathways in the file, {len(config)} in the config' if len(file) != len(config) else (
        'the same pathways in another order' if set(file) == set(config) else 'other taps or transforms')
    show = '; '.join
    first = next((f' The first that differ: {one}, and {other}.' for one, other in zip(file, config) if one != other), '')
    raise DistillationError(f'{key}: {reason}. File: {show(map(str, file))}. Config: {show(map(str, config))}.{first} For '
                            'other networks, pathway_map=dict(teacher={old: new}, student={old: new}) renames those of the '
                            'file.')
