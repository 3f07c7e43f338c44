"""Mutated results of searches: ``process.json`` and ``aggregation.json``, read by a training and by ``tools/plot.py``."""
import json
import math
import random
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Optional

from mmkd_plugin.report.plot import draw

from . import documented, files, training, values
from .configs import Configs
from .inputs import Input, Kind
from .mutations import Mutation, paths, value_at

BASES = ('classification/cifar100-20/distpro_resnet14x2-resnet8_8e_cifar100-20.py',
         'classification/cifar100-20/dfa_resnet26-resnet8_8e_cifar100-20.py',
         'segmentation/camvid/dfa_pspnet_r18-r18w16-d8_1k_camvid-128x176.py')
TEXTS = [
    '9' * 5000, '-' + '9' * 400, '1e999', '-1e999', 'NaN', 'Infinity', '-Infinity', '1e-400', '0x10', '1_000', '01', '+1',
    'tru', 'None', "'x'", '[' * 5000 + ']' * 5000, '[' * 100_000, '{"a":' * 2000 + '1' + '}' * 2000, '"\\ud800"',
    '"\\u0000"',
    '1 , 1', '', '"' + 'x' * 100_000 + '"', '[1e308, 1e308]', '1.0', '1E0', 'null', 'true', '{}', '[]', '[[]]', '-0', '-0.0']
"""What a file holds in the place of a value."""
RELATED = dict(importance=['record', 'records', 'importance'], length=['records', 'length'], every=['records', 'every'],
               pathways=['records', 'record', 'pathways', 'pathway'], weights=['weights', 'sum of the weights'],
               teacher=['teacher', 'layers'], groups=['group', 'groups'], name=['group', 'groups', 'course'],
               course=['course', 'group'], transform=['pathways', 'transforms'], student=['pathways', 'student', 'group'])


class Artefacts(Kind):
    """Results of searches with a change."""
    name = 'artefacts'

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._configs = Configs(folder)

    def make(self, number: int, chance: random.Random) -> Input:
        base = chance.choice(BASES)
        file = self._configs.result(base)
        text = file.read_text()
        how = chance.random()
        if how < .35:
            what, data = files.damaged(text.encode(), chance)
            mutation, names = Mutation('replace', (file.name,), what=what), [file.name]
        elif how < .38:
            return self._no_file(base, file, chance)
        else:
            mutation = self._change(json.loads(text), number, chance)
            data = _written(mutation.applied(json.loads(text)))
            names = _names(mutation, file.name)
            if mutation.what == 'text':
                data = data.replace(json.dumps(MARK).encode(), mutation.value.text.encode())
        return self._input(base, file.name, data, mutation, names, chance.random() < .25)

    def _input(self, base: str, name: str, data: bytes, mutation: Mutation, names: List[str], plot: bool) -> Input:
        shipped = self._configs.small(base)
        teacher = str(self.folder / shipped.checkpoint)

        def setting(folder: Path) -> None:
            self._configs.lay_out(shipped, False, folder)
            (folder / 'run/search' / name).write_bytes(data)

        work = _plotted(f'run/search/{name}') if plot else lambda: training.train(shipped.content, False, teacher)
        original = json.loads(self._configs.result(base).read_text())
        return Input(base, [mutation], work, setting, lambda facts: _nonsense(data, name, original, facts, plot), names,
                     about='drawn' if plot else name)

    def _no_file(self, base: str, file: Path, chance: random.Random) -> Input:
        what = chance.choice(list(files.NO_FILES))
        mutation = Mutation('replace', (file.name,), what=what)
        one = self._input(base, file.name, b'', mutation, [file.name], chance.random() < .25)
        lay_out = one.setting

        def setting(folder: Path) -> None:
            lay_out(folder)
            (folder / 'run/search' / file.name).unlink()
            files.NO_FILES[what](folder / 'run/search' / file.name)

        one.setting = setting
        one.legitimate = lambda facts: ['there is no file']
        return one

    def _change(self, content: Dict[str, Any], number: int, chance: random.Random) -> Mutation:
        """A change of what stands in a file."""
        found = list(paths(content))
        if chance.random() < .8:  # the rest is for a reader only
            found = [path for path in found if path[0] not in ('meta', 'search') or len(path) == 1]
        shallow = [path for path in found if len(path) <= 3]
        path = chance.choice(shallow if chance.random() < .7 else found)
        value = value_at(content, path)
        how = chance.choices(['text', 'any', 'like', 'delete', 'rename', 'add', 'swap'], [3, 3, 4, 2, 1, 1, 1])[0]
        if how == 'delete':
            return Mutation('delete', path)
        if how == 'rename' and isinstance(path[-1], str):
            return Mutation('rename', path, chance.choice(values.misspelt(path[-1])), 'misspelt')
        if how == 'add':
            return Mutation('add', (*path[:-1], 'foo') if isinstance(path[-1], str) else ('foo',),
                            _plain(values.drawn(values.trees, number)), 'new')
        if how == 'swap':
            other = chance.choice(shallow)
            if other[:len(path)] != path[:len(other)]:
                return Mutation('swap', path, other)
        if how == 'text':
            return Mutation('replace', path, Text(chance.choice(TEXTS)), 'text')
        new = chance.choice(values.variants(value)) if how == 'like' else values.drawn(values.anything, number)
        return Mutation('replace', path, _plain(new), 'like it' if how == 'like' else 'any')


MARK = '<the text>'


class Text:
    """A text that stands in a file as it is, whatever it is."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text if len(self.text) < 60 else f'{self.text[:40]}... ({len(self.text)} characters)'


def _plain(value: Any) -> Any:
    """What of a value JSON can hold."""
    try:
        return json.loads(json.dumps(value, default=str))
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _written(content: Any) -> bytes:
    return json.dumps(content, default=lambda value: MARK).encode()


def _names(mutation: Mutation, file: str) -> List[str]:
    changed = [mutation.path, mutation.value] if mutation.operation == 'swap' else [mutation.path]
    keys = [key for path in changed for key in path if isinstance(key, str)]
    found = [*keys, *(related for key in keys for related in RELATED.get(key, []))]
    found += [mutation.value] if mutation.operation == 'rename' else []
    # What is no JSON any more has no keys.
    return [*found, f"{file}' holds", 'JSON'] if mutation.operation in ('replace', 'add') else found


def _plotted(path: str) -> Callable[[], Dict[str, Any]]:
    def work() -> Dict[str, Any]:
        drawn = draw(Path(path), Path('pictures'), '')
        return dict(pictures=[str(picture) for picture in drawn], empty=[str(picture) for picture in drawn
                                                                       if picture.stat().st_size == 0])
    return work


def _nonsense(data: bytes, name: str, original: Dict[str, Any], facts: Dict[str, Any], plot: bool) -> List[str]:
    """Why a file should not have been accepted."""
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f'holds {constant}')

    def finite(digits: str) -> float:
        return float(digits) if math.isfinite(float(digits)) else refuse(digits)

    try:
        content = json.loads(data.decode('utf-8'), parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        return [f'it is no JSON: {str(error)[:100]}']
    check = _process if name == 'process.json' else _aggregation
    problem = check(content, None if plot else original)
    found = [problem] if problem else []
    if plot:
        return found + [f'{picture} is empty' for picture in facts['empty']]
    found += [f'{loss} is not finite' for loss in facts['not_finite']]
    return found + ([] if facts.get('teacher_as_saved') else ['the teacher is another'])


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _process(content: Any, original: Optional[Dict[str, Any]]) -> str:
    """What of a process does not follow docs/distpro.md; '' if all does."""
    keys = ('format', 'version', 'pathways', 'normalisation', 'bias', 'tau', 'unit', 'length', 'every', 'meta', 'importance')
    if not isinstance(content, dict) or set(content) != set(keys):
        return 'other keys'
    if content['format'] != 'mmkd.process' or content['version'] != 1:  # those that are mutated are of pathways alone
        return 'format or version'
    if original is not None and content['pathways'] != original['pathways']:
        return 'other pathways'
    if not isinstance(content['pathways'], list) or not content['pathways'] or not all(
            isinstance(one, dict) and set(one) == {'teacher', 'student', 'transform'} and all(
                isinstance(value, str) for value in one.values()) for one in content['pathways']):
        return 'pathways'
    if content['normalisation'] not in documented.NORMALISATIONS or content['unit'] not in ('iter', 'epoch'):
        return 'normalisation or unit'
    if not documented.is_number(content['bias']) or not (content['tau'] is None or documented.is_number(content['tau'])):
        return 'bias or tau'
    length, every = content['length'], content['every']
    if not _whole(length) or not _whole(every) or not isinstance(content['meta'], dict):
        return 'length, every or meta'
    rows = content['importance']
    if not isinstance(rows, list) or len(rows) != math.ceil((length - 1) / every) + 1:
        return 'number of records'
    width = len(content['pathways'])
    fits = all(isinstance(row, list) and len(row) == width and all(map(documented.is_number, row)) for row in rows)
    return '' if fits else 'a record'


def _aggregation(content: Any, original: Optional[Dict[str, Any]]) -> str:
    """What of an aggregation does not follow docs/dfa.md; '' if all does."""
    keys = ('format', 'version', 'teacher', 'groups', 'search', 'meta', 'course')
    if not isinstance(content, dict) or set(content) != set(keys):
        return 'other keys'
    if content['format'] != 'mmkd.aggregation' or content['version'] != 1:
        return 'format or version'
    if not isinstance(content['teacher'], dict) or not isinstance(content['groups'], list) or not content['groups']:
        return 'teacher or groups'
    if original is not None and content['teacher'].get('sha256') != original['teacher']['sha256']:
        return 'another teacher'
    for group in content['groups']:
        if not isinstance(group, dict) or not {'name', 'student', 'teacher', 'weights'} <= set(group):
            return 'a group'
        if not isinstance(group['name'], str) or not isinstance(group['student'], str):
            return 'name or student of a group'
        weights, layers = group['weights'], group['teacher']
        if not isinstance(weights, list) or not isinstance(layers, list) or not 0 < len(weights) == len(layers) or not all(
                map(documented.is_number, weights)) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-4:
            return 'weights of a group'
    if original is not None and [(group['student'], group['teacher']) for group in content['groups']] != [
            (group['student'], group['teacher']) for group in original['groups']]:
        return 'other groups'
    return _course(content)


def _course(content: Dict[str, Any]) -> str:
    widths = {group['name']: 1 + len(group['weights']) for group in content['groups']}
    course = content['course']
    if not isinstance(course, dict) or not set(course) <= set(widths):
        return 'course'
    fits = all(isinstance(points, list) and points and all(
        isinstance(point, list) and len(point) == widths[name] and all(map(documented.is_number, point)) for point in points)
        for name, points in course.items())
    return '' if fits else 'a point of the course'
