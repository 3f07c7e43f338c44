"""``aggregation.json``: what a search of feature aggregations found, readable, checked when it is read."""
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from ..search import ArtefactFormat, is_name, is_number, require
from ..utils.errors import DistillationError
from .aggregation import ABLATIONS
from .groups import LayerGroup

FORMAT = ArtefactFormat(
    'mmkd.aggregation', 1, ('teacher', 'groups', 'search', 'meta', 'course'),
    f'the aggregation.json that `mmkd search CONFIG` writes, or {", ".join(ABLATIONS)}',
    names=ABLATIONS)
GROUP_KEYS = ('name', 'student', 'teacher', 'weights')
SUM_TOLERANCE = 1e-4
SEARCH_ANEW = "Give the search's taps, or search anew with those of the config."


def write_aggregation(path: Path, groups: Sequence[Dict[str, Any]], teacher: Dict[str, Any], search: Dict[str, Any],
                      meta: Dict[str, Any], course: Dict[str, List[List[float]]]) -> None:
    """Writes a result, in one go.

    Args:
        path: the file to write.
        groups: ``name``, ``student`` (tap), ``teacher`` (taps) and ``weights`` of each, shallow to deep.
        teacher: ``model`` (its class) and ``sha256`` (of its weights).
        search: how it was searched, for the reader.
        meta: where it comes from, for the reader; see :func:`~mmkd_plugin.search.provenance.provenance`.
        course: by group, ``[iteration, weight of each layer]`` at intervals.
    """
    FORMAT.write(path, dict(teacher=teacher, groups=list(groups), search=search, meta=meta, course=course))


def read_aggregation(path: Any) -> Dict[str, Any]:
    """Reads a result.

    Args:
        path: the file to read.

    Raises:
        DistillationError: if there is no such file, it is no result, or its weights are no weights.
    """
    content = FORMAT.read(path)
    require(isinstance(content['teacher'], dict), path, 'teacher', content['teacher'], 'an object')
    require(isinstance(content['groups'], list) and bool(content['groups']), path, 'groups', content['groups'],
            'a list of groups')
    for group in content['groups']:
        _check_group(group, path)
    names = [group['name'] for group in content['groups']]
    require(len(set(names)) == len(names), path, 'groups', ', '.join(names), 'names that differ')
    require(isinstance(content['meta'], dict) and isinstance(content['search'], dict), path, 'meta or search', 'no object',
            'objects')
    _check_course(content['course'], content['groups'], path)
    return content


def _check_course(course: Any, groups: List[Dict[str, Any]], path: Any) -> None:
    widths = {group['name']: 1 + len(group['weights']) for group in groups}
    fits = isinstance(course, dict) and all(
        isinstance(points, list) and points and all(
            isinstance(point, list) and len(point) == widths.get(name) and all(map(is_number, point)) for point in points)
        for name, points in course.items())
    require(fits, path, 'course', course, 'for each group a list of [iteration, weight of each layer]')


def _check_group(group: Any, path: Any) -> None:
    named = isinstance(group, dict) and set(group) == set(GROUP_KEYS)
    require(named and is_name(group['name']) and is_name(group['student']), path, 'a group', group, ', '.join(GROUP_KEYS))
    weights, layers, what = group['weights'], group['teacher'], f'group {group["name"]}'
    require(isinstance(layers, list) and all(map(is_name, layers)), path, f'{what}: teacher', layers,
            'a list of taps')
    require(isinstance(weights, list) and 0 < len(weights) == len(layers) and all(map(is_number, weights))
            and min(weights) >= 0, path, f'{what}: weights', weights,
            f'a list of {len(layers)} numbers >= 0, one for each layer')
    require(abs(sum(weights) - 1) <= SUM_TOLERANCE, path, f'{what}: sum of the weights {str(weights)[:200]}',
            round(sum(weights), 6), '1')


def matching_weights(content: Dict[str, Any], groups: Sequence[LayerGroup], teacher: Mapping[str, Any], transfer: bool,
                     path: Any) -> List[List[float]]:
    """The weights of every group of a config, from a result of the same teacher with the same layers.

    Args:
        content: what :func:`read_aggregation` returned.
        groups: as found in the models.
        teacher: the identity of the config's teacher.
        transfer: whether the teacher's weights, and the student's layers, may be others (the teacher's topology may not).
        path: the file it was read from, for messages.

    Raises:
        DistillationError: if something does not fit; prints both sides.
    """
    theirs, ours = content['groups'], list(groups)
    if len(theirs) != len(ours):
        raise _unfit(path, f'has other groups. File: {_names(theirs)}. Config: {", ".join(group.name for group in ours)}',
                     SEARCH_ANEW)
    for there, here in zip(theirs, ours):
        _check_layers(there, here, transfer, path)
    there, here_sha = content['teacher'].get('sha256'), teacher.get('sha256')
    if there != here_sha and not transfer:
        raise _unfit(path, f'was searched with another teacher. File: {content["teacher"].get("model")}, sha256 '
                     f'{str(there)[:12]}... Config: sha256 {str(here_sha)[:12]}...',
                     'With transfer=True the weights are used for this teacher all the same.')
    return [list(group['weights']) for group in theirs]


def check_normalisation(content: Dict[str, Any], normalise_layers: bool, path: Any) -> None:
    """Raises :class:`DistillationError` where layers were normalised in the search and are not now, or the other way round.

    Args:
        content: what :func:`read_aggregation` returned.
        normalise_layers: the config's.
        path: the file it was read from, for messages.
    """
    searched = content['search'].get('normalise_layers', False)
    if searched != normalise_layers:
        raise _unfit(path, f'was searched with normalise_layers={searched}, the config has {normalise_layers}',
                     'Weights of layers and of normalised layers are not the same.')


def _check_layers(there: Dict[str, Any], here: LayerGroup, transfer: bool, path: Any) -> None:
    layers, own = there['teacher'], list(here.teacher)
    if len(layers) != len(own):
        raise _unfit(path, f'has another number of layers of the teacher in group {here.name}. File: {len(layers)} '
                     f'({_ends(layers)}). Teacher: {len(own)} ({_ends(own)})',
                     "Accepted: the same teacher, with the search's value of 'every_block'.")
    if layers != own:
        other = next(number for number, pair in enumerate(zip(layers, own)) if pair[0] != pair[1])
        raise _unfit(path, f'has other layers in group {here.name}. File: {layers[other]}. Config: {own[other]}',
                     SEARCH_ANEW)
    if there['student'] != here.student and not transfer:
        raise _unfit(path, f'was searched for another layer of the student in group {here.name}. File: {there["student"]}. '
                     f'Config: {here.student}', 'With transfer=True the weights are used all the same.')


def _unfit(path: Any, problem: str, hint: str = '') -> DistillationError:
    return DistillationError(problem, given=str(path), hint=hint)


def _names(groups: Sequence[Dict[str, Any]]) -> str:
    return ', '.join(str(group['name']) for group in groups)


def _ends(taps: Sequence[str]) -> str:
    return taps[0] if len(taps) == 1 else f'{taps[0]} ... {taps[-1]}'
