"""``process.json``: a process that a search has found, written once, checked when read.

    {"format": "mmkd.process", "version": 1,
     "pathways": [{"teacher": "backbone.layer1@preact", "student": "backbone.layer2@preact", "transform": "conv1"}, ...],
     "normalisation": "biased_softmax", "bias": 1.0, "tau": 0.5,
     "unit": "iter", "length": 12480, "every": 4,
     "meta": {...},
     "importance": [[1.0, 1.0, ...], ...]}

``importance`` holds a_t (P numbers, unnormalised) at positions 0, every, 2 * every, ... and at the last, length - 1.
"""
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import torch

from ..search import ArtefactFormat, is_name, is_number, require
from ..utils.errors import MOST_LISTED, DistillationError, check_known_keys
from .pathways import Pathway
from .process import UNITS, Process
from .weights import NORMALISATIONS

FORMAT = ArtefactFormat(
    'mmkd.process', 1, ('pathways', 'normalisation', 'bias', 'tau', 'unit', 'length', 'every', 'meta', 'importance'),
    'the process.json that `python tools/search.py CONFIG` writes; modes without one: equal, constant, search')
SIDES = ('teacher', 'student', 'transform')
LONGEST = 10 ** 12
"""Iterations or epochs: positions beyond it are not told apart by the arithmetic of floats."""


def write_process(path: Path, process: Process) -> None:
    """Writes a process, in one go."""
    FORMAT.write(path, process.content())


def read_process(path: Any) -> Process:
    """Reads and checks a process file.

    Args:
        path: the file to read.

    Raises:
        DistillationError: if it is missing, truncated, of another version, or holds anything but finite numbers in the
            right places.
    """
    content = FORMAT.read(path)

    def check(name: str, fits: bool, accepted: str) -> None:
        require(fits, path, name, content[name], accepted)

    pathways = content['pathways']
    check('pathways', isinstance(pathways, list) and bool(pathways) and all(
        isinstance(pathway, dict) and set(pathway) == set(SIDES) and all(map(is_name, pathway.values()))
        for pathway in pathways), f'a list of objects with {", ".join(SIDES)}')
    kind = content['normalisation']
    check('normalisation', isinstance(kind, str) and kind in NORMALISATIONS, ', '.join(NORMALISATIONS))
    check('bias', is_number(content['bias']), 'a number')
    check('tau', content['tau'] is None or is_number(content['tau']), 'a number or null')
    check('unit', isinstance(content['unit'], str) and content['unit'] in UNITS, ', '.join(UNITS))
    for name in ('length', 'every'):
        check(name, type(content[name]) is int and 0 < content[name] <= LONGEST, 'a whole number > 0, at most 10**12')
    check('meta', isinstance(content['meta'], dict), 'an object')
    _check_records(content, path)
    tau = content['tau'] if content['tau'] is None else float(content['tau'])
    return Process([Pathway(**pathway) for pathway in pathways], content['normalisation'], float(content['bias']), tau,
                   torch.tensor(content['importance'], dtype=torch.float64), content['length'], content['every'],
                   content['unit'], content['meta'])


def _check_records(content: Dict[str, Any], path: Any) -> None:
    records, length, every, width = content['importance'], content['length'], content['every'], len(content['pathways'])
    # 0, every, ... below length - 1, and length - 1: counted, since the file may claim any length
    expected = -(-(length - 1) // every) + 1
    require(isinstance(records, list) and len(records) == expected, path, 'the number of records',
            len(records) if isinstance(records, list) else type(records).__name__,
            f'{expected} (length {length}, one every {every}, and the last)')
    for number, record in enumerate(records):
        require(isinstance(record, list) and len(record) == width and all(map(is_number, record)), path, f'record {number}',
                record, f'{width} finite numbers, one for each pathway')


def rename(pathways: Sequence[Pathway], names: Mapping[str, Mapping[str, str]]) -> List[Pathway]:
    """Pathways with other taps and transforms, for replaying a process on other networks.

    Args:
        pathways: the pathways of the file.
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


def check_pathways(path: Any, file: Sequence[Pathway], config: Sequence[Pathway]) -> None:
    """Raises :class:`DistillationError` unless both have the same pathways in the same order; prints both.

    Args:
        path: the process file, for messages.
        file: its pathways, renamed as the config says.
        config: the pathways of the config.
    """
    if list(file) == list(config):
        return
    reason = f'{len(file)} pathways in the file, {len(config)} in the config' if len(file) != len(config) else (
        'the same pathways in another order' if set(file) == set(config) else 'other taps or transforms')
    first = next((f'. The first that differ: {one}, and {other}' for one, other in zip(file, config) if one != other), '')
    raise DistillationError(
        f'has {reason}. File: {_show(file)}. Config: {_show(config)}{first}', given=str(path),
        hint='For other networks, pathway_map=dict(teacher={old: new}, student={old: new}) renames those of the file.')


def _show(pathways: Sequence[Pathway]) -> str:
    more = f' and {len(pathways) - MOST_LISTED} more' if len(pathways) > MOST_LISTED else ''
    return '; '.join(map(str, pathways[:MOST_LISTED])) + more
