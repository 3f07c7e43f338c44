"""``aggregation.json``: what a search found, readable, checked when it is read, without executing anything."""
import json
import math
import re
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any, Dict, List, Sequence

from ..core.errors import DistillationError, check_known_keys
from ..core.files import write_whole
from .aggregation import ABLATIONS
from .groups import LayerGroup

FORMAT, VERSION = 'mmkd.aggregation', 1
KEYS = ('format', 'version', 'teacher', 'groups', 'search', 'meta', 'course')
GROUP_KEYS = ('name', 'student', 'teacher', 'weights')
SUM_TOLERANCE = 1e-4


def write_aggregation(path: Path, groups: Sequence[Dict[str, Any]], teacher: Dict[str, str], search: Dict[str, Any],
                      meta: Dict[str, Any], course: Dict[str, List[list]]) -> None:
    """Writes a result, in one go.

    Args:
        path: of the file.
        groups: ``name``, ``student`` (tap), ``teacher`` (taps) and ``weights`` of each, shallow to deep.
        teacher: ``model`` (its class) and ``sha256`` (of its weights).
        search: how it was searched, for the reader.
        meta: where it comes from, for the reader; see :func:`~mmkd_plugin.core.provenance.provenance`.
        course: by group, ``[iteration, weight of each layer]`` at intervals.
    """
    content = dict(format=FORMAT, version=VERSION, teacher=teacher, groups=list(groups), search=search, meta=meta,
                   course=course)
    write_whole(path, _readable(json.dumps(content, indent=1)) + '\n')


def read_aggregation(path: str, key: str) -> Dict[str, Any]:
    """Reads a result.

    Args:
        path: of the file.
        key: the config key it stands under, for messages.

    Raises:
        DistillationError: if there is no such file, it is no result, or its weights are no weights.
    """
    if not Path(path).is_file():
        beside = [str(file) for file in Path(path).parent.glob('*.json')]
        near = get_close_matches(str(path), [*ABLATIONS, *beside, *map(str, Path(path).glob('*.json'))], 1)
        raise DistillationError(f'{key}: file {str(path)!r} not found (working directory {Path.cwd()}). '
                                + (f'Did you mean {near[0]!r}? ' if near else '') + "A run with mode='search' and an "
                                f'AggregationSearchHook writes it; without one: {", ".join(ABLATIONS)}.')
    try:
        content = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DistillationError(f'{key}: {str(path)!r} is not JSON ({error})') from None
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        given = content.get('format') if isinstance(content, dict) else type(content).__name__
        raise DistillationError(f'{key}: {str(path)!r} is not an aggregation. Its format: {given!r}. Accepted: {FORMAT!r}.')
    if content.get('version') != VERSION:
        raise DistillationError(f'{key}: {str(path)!r} has version {content.get("version")!r}. Accepted: {VERSION}.')
    check_known_keys(f'{key}: {path}', content, KEYS)
    missing = [name for name in KEYS if name not in content]
    if missing:
        raise DistillationError(f'{key}: {str(path)!r} has no {" and no ".join(missing)}')
    if not isinstance(content['groups'], list) or not content['groups'] or not isinstance(content['teacher'], dict):
        raise DistillationError(f'{key}: {str(path)!r}: groups is no list of groups, or teacher is no dict')
    for group in content['groups']:
        _check_group(group, key, str(path))
    _check_course(content['course'], content['groups'], f'{key}: {str(path)!r}: course')
    return content


def _check_course(course: Any, groups: List[Dict[str, Any]], where: str) -> None:
    widths = {group['name']: 1 + len(group['weights']) for group in groups}
    fits = isinstance(course, dict) and all(
        isinstance(points, list) and points and all(
            isinstance(point, list) and len(point) == widths.get(name) and all(map(_is_number, point)) for point in points)
        for name, points in course.items())
    if not fits:
        raise DistillationError(f'{where}: is not what a search writes. Accepted: for each group a list of [iteration, '
                                'weight of each layer].')


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_group(group: Any, key: str, path: str) -> None:
    if not isinstance(group, dict) or any(name not in group for name in GROUP_KEYS):
        raise DistillationError(f'{key}: {path!r}: {str(group)[:100]} is not a group. Accepted: {", ".join(GROUP_KEYS)}.')
    weights, layers = group['weights'], group['teacher']
    where = f'{key}: {path!r}: group {group["name"]}'
    if not (isinstance(weights, list) and all(map(_is_number, weights))) or not isinstance(layers, list):
        raise DistillationError(f'{where}: weights {weights!r}. Accepted: a list of numbers, one for each layer.')
    if len(weights) != len(layers):
        raise DistillationError(f'{where} has {len(weights)} weights for {len(layers)} layers')
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise DistillationError(f'{where}: weights {weights}. Accepted: numbers >= 0.')
    if abs(sum(weights) - 1) > SUM_TOLERANCE:
        raise DistillationError(f'{where}: the weights {weights} sum to {sum(weights):.6g}. Accepted: 1.')


def matching_weights(content: Dict[str, Any], groups: Sequence[LayerGroup], teacher: Dict[str, str], transfer: bool,
                     key: str) -> List[List[float]]:
    """The weights of every group of a config, from a result of the same teacher with the same layers.

    Args:
        content: of :func:`read_aggregation`.
        groups: as found in the models.
        teacher: the identity of the config's teacher.
        transfer: whether the teacher's weights, and the student's layers, may be others (the teacher's topology may not).
        key: the config key, for messages.

    Raises:
        DistillationError: if something does not fit; prints both sides.
    """
    theirs, ours = content['groups'], list(groups)
    if len(theirs) != len(ours):
        raise DistillationError(f'{key}: other groups. File: {_names(theirs)}. Config: {", ".join(g.name for g in ours)}.')
    for there, here in zip(theirs, ours):
        if len(there['teacher']) != len(here.teacher):
            raise DistillationError(
                f'{key}: the teacher has another number of layers in group {here.name}. File: {len(there["teacher"])} '
                f'({_ends(there["teacher"])}). Teacher: {len(here.teacher)} ({_ends(here.teacher)}). Accepted: the same '
                "teacher, with the search's value of 'every'.")
        if list(there['teacher']) != list(here.teacher):
            other = next(number for number, pair in enumerate(zip(there['teacher'], here.teacher)) if pair[0] != pair[1])
            raise DistillationError(f'{key}: other layers in group {here.name}. File: {there["teacher"][other]}. Config: '
                                    f'{here.teacher[other]}.')
        if there['student'] != here.student and not transfer:
            raise DistillationError(f"{key}: searched for another layer of the student in group {here.name}. File: "
                                    f"{there['student']}. Config: {here.student}. With transfer=True the weights are used "
                                    'all the same.')
    there, here = content['teacher'].get('sha256'), teacher.get('sha256')
    if there != here and not transfer:
        raise DistillationError(
            f'{key}: searched with another teacher. File: {content["teacher"].get("model")}, sha256 {str(there)[:12]}... '
            f'Config: sha256 {str(here)[:12]}... With transfer=True the weights are used for this teacher all the same.')
    return [list(group['weights']) for group in theirs]


def _names(groups) -> str:
    return ', '.join(str(group['name']) for group in groups)


def _ends(taps) -> str:
    return taps[0] if len(taps) == 1 else f'{taps[0]} ... {taps[-1]}'


def _readable(text: str) -> str:
    """Every list of numbers on one line."""
    return re.sub(r'\[\s+([^][{}"]+?)\s+\]', lambda found: f'[{" ".join(found[1].split())}]', text)
