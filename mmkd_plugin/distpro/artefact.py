"""``process.json``: a process that a search has found, written once, checked when read.

    {"format": "mmkd.process", "version": 2,
     "members": [{"teacher": "backbone.layer1@preact", "student": "backbone.layer2@preact", "transform": "conv1"},
                 {"distiller": "kd"}, {"distiller": "mgd", "loss": "loss_layer4"}, ...],
     "normalisation": "biased_softmax", "bias": 1.0, "tau": 0.5, "total": 1.0, "scales": [0.12, 3.4, ...],
     "unit": "iter", "length": 12480, "every": 4, "seeds": [],
     "stability": {"significance": [2.1, 0.3, ...], "entropy": [1.0, ...], ...},
     "meta": {...},
     "importance": [[1.0, 1.0, ...], ...]}

``importance`` holds a_t (P numbers, unnormalised) at positions 0, every, 2 * every, ... and at the last, length - 1. A
process of pathways alone, with none of what is new, is written as version 1: ``pathways`` in place of ``members``, and
without ``total``, ``scales``, ``seeds`` and ``stability``.
"""
from pathlib import Path
from typing import Any, Dict, Sequence

import torch

from ..search import ArtefactFormat, is_name, is_number, require
from ..utils.errors import MOST_LISTED, DistillationError
from .members import Member, describe_difference, is_entry, member_of
from .process import UNITS, Process
from .weights import NORMALISATIONS

WEIGHING, COURSE = ('normalisation', 'bias', 'tau'), ('unit', 'length', 'every')
FORMAT = ArtefactFormat(
    'mmkd.process', 2, ('members', *WEIGHING, 'total', 'scales', *COURSE, 'seeds', 'stability', 'meta', 'importance'),
    'the process.json that `mmkd search CONFIG` writes; modes without one: equal, constant, search',
    older={1: ('pathways', *WEIGHING, *COURSE, 'meta', 'importance')})
ENTRIES = {1: 'a list of objects with teacher, student, transform',
           2: 'a list of objects with teacher, student, transform, or with distiller and, maybe, loss'}
LONGEST = 10 ** 12
"""Iterations or epochs: positions beyond it are not told apart by the arithmetic of floats."""


def write_process(path: Path, process: Process) -> None:
    """Writes a process, in one go."""
    FORMAT.write(path, process.content(), version=1 if process.is_plain else 2)


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

    version = content['version']
    key = 'pathways' if version == 1 else 'members'
    entries = content[key]
    check(key, isinstance(entries, list) and bool(entries) and all(
        is_entry(entry) and all(map(is_name, entry.values())) and (version > 1 or 'distiller' not in entry)
        for entry in entries), ENTRIES[version])
    kind = content['normalisation']
    check('normalisation', isinstance(kind, str) and kind in NORMALISATIONS, ', '.join(NORMALISATIONS))
    check('bias', is_number(content['bias']), 'a number')
    check('tau', content['tau'] is None or is_number(content['tau']), 'a number or null')
    check('unit', isinstance(content['unit'], str) and content['unit'] in UNITS, ', '.join(UNITS))
    for name in ('length', 'every'):
        check(name, type(content[name]) is int and 0 < content[name] <= LONGEST, 'a whole number > 0, at most 10**12')
    check('meta', isinstance(content['meta'], dict), 'an object')
    _check_records(content, len(entries), path)
    tau = content['tau'] if content['tau'] is None else float(content['tau'])
    more = {} if version == 1 else _what_is_new(content, len(entries), path)
    return Process([member_of(entry) for entry in entries], content['normalisation'], float(content['bias']), tau,
                   torch.tensor(content['importance'], dtype=torch.float64), content['length'], content['every'],
                   content['unit'], content['meta'], **more)


def _what_is_new(content: Dict[str, Any], width: int, path: Any) -> Dict[str, Any]:
    """What version 2 has beyond version 1, checked."""
    total, scales, seeds, stability = (content[name] for name in ('total', 'scales', 'seeds', 'stability'))
    require(total is None or (is_number(total) and total > 0), path, 'total', total, 'a number > 0, or null')
    require(scales is None or (isinstance(scales, list) and len(scales) == width
                               and all(is_number(scale) and scale > 0 for scale in scales)),
            path, 'scales', scales, f'{width} numbers > 0, one for each member, or null')
    require(isinstance(seeds, list) and all(type(seed) is int and 0 <= seed < 2 ** 32 for seed in seeds), path, 'seeds',
            seeds, 'a list of whole numbers >= 0 and < 2**32')
    require(isinstance(stability, dict) and all(
        value is None or is_number(value) or (isinstance(value, list) and all(map(is_number, value)))
        for value in stability.values()), path, 'stability', stability,
        'an object of numbers, lists of numbers, or null')
    return dict(total=total if total is None else float(total),
                scales=scales if scales is None else [float(scale) for scale in scales], seeds=seeds, stability=stability)


def _check_records(content: Dict[str, Any], width: int, path: Any) -> None:
    records, length, every = content['importance'], content['length'], content['every']
    # 0, every, ... below length - 1, and length - 1: counted, since the file may claim any length
    expected = -(-(length - 1) // every) + 1
    require(isinstance(records, list) and len(records) == expected, path, 'the number of records',
            len(records) if isinstance(records, list) else type(records).__name__,
            f'{expected} (length {length}, one every {every}, and the last)')
    for number, record in enumerate(records):
        require(isinstance(record, list) and len(record) == width and all(map(is_number, record)), path, f'record {number}',
                record, f'{width} finite numbers, one for each '
                f'{"pathway" if content["version"] == 1 else "member"}')


def check_members(path: Any, file: Sequence[Member], config: Sequence[Member]) -> None:
    """Raises :class:`DistillationError` unless both have the same members in the same order; prints both.

    Args:
        path: the process file, for messages.
        file: its members, renamed as the config says.
        config: the members of the config.
    """
    reason = describe_difference(file, config)
    if not reason:
        return
    first = next((f'. The first that differ: {one}, and {other}' for one, other in zip(file, config) if one != other), '')
    raise DistillationError(
        f'has {reason}. File: {_show(file)}. Config: {_show(config)}{first}', given=str(path),
        hint='For other networks, pathway_map=dict(teacher={old: new}, student={old: new}) renames those of the file.')


def _show(members: Sequence[Member]) -> str:
    more = f' and {len(members) - MOST_LISTED} more' if len(members) > MOST_LISTED else ''
    return '; '.join(map(str, members[:MOST_LISTED])) + more
