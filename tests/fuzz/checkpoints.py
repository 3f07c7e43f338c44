"""Mutated checkpoints: a teacher's, one to begin with (``load_from``), one to go on from (``resume``)."""
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch

from . import files, pickles, training, values
from .configs import Configs
from .inputs import Input, Kind
from .mutations import Mutation, Unchanged, paths, value_at
from .shipped import Shipped

BASE = 'classification/cifar100-20/l2_resnet14x2-resnet8_8e_cifar100-20.py'
PLACES = ('teacher', 'teacher', 'teacher', 'load_from', 'resume', 'last_checkpoint')
FILE = 'given.pth'
ALL = ('NaN', 'zeros', 'int8', 'bool', 'complex', 'half', 'double', 'infinity', 'a list', 'expanded')
POINTERS = ('', '\n', 'x', 'run/epoch_2.pth', '/dev/zero', 'a\0b', 'run', 'run/epoch_1.pt', '/', '\udcff' * 3, 'x' * 5000,
            '../..', 'http://127.0.0.1:9/x.pth', 's3://x/y.pth', 'run/epoch_1.pth\nx', ' run/epoch_1.pth',
            'run/last_checkpoint')
"""What stands in ``last_checkpoint``."""


class Checkpoints(Kind):
    """Checkpoints with a change, read by a training."""
    name = 'checkpoints'

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._configs = Configs(folder)
        self._saved: Dict[str, Path] = {}

    def make(self, number: int, chance: random.Random) -> Input:
        place = chance.choice(PLACES)
        if place == 'last_checkpoint':
            return self._pointer(number, chance)
        source = self.whole(place)
        how = chance.random()
        if how < .35:
            what, data = files.damaged(source.read_bytes(), chance)
            return self._input(place, Mutation('replace', (FILE,), what=what), _writing(data))
        if how < .38:
            what = chance.choice(list(files.NO_FILES))
            return self._input(place, Mutation('replace', (FILE,), what=what), files.NO_FILES[what])
        content = torch.load(source, weights_only=False)
        if how < .45:
            what = chance.choice(list(pickles.WRITERS))
            return self._input(place, Mutation('replace', (FILE,), what=what),
                               lambda path: pickles.WRITERS[what](path, content), content)
        data = None
        while data is None:
            mutation = self._change(content, number, chance)
            changed = mutation.applied(content)
            data = pickles.saved(changed)
        return self._input(place, mutation, _writing(data), changed)

    def whole(self, place: str) -> Path:
        """The checkpoint that is mutated: a teacher's, or one that a run of the same config has left."""
        shipped = self._configs.small(BASE)
        if place == 'teacher':
            return self.folder / shipped.checkpoint
        if not self._saved:
            self._saved['file'] = leave_checkpoint(self, self._configs, BASE)
        return self._saved['file']

    def _change(self, content: Dict[str, Any], number: int, chance: random.Random) -> Mutation:
        """A change of what a checkpoint holds."""
        found = [path for path in paths(content) if len(path) <= 4]
        weights = [path for path in found if path[0] == 'state_dict' and len(path) == 2]
        how = chance.choices(['tensor', 'call', 'any', 'delete', 'rename', 'all'], [5, 4, 2, 1, 1, 2])[0]
        path = chance.choice(found if chance.random() < .4 else weights)
        if how == 'tensor':
            what, path = chance.choice(list(pickles.TENSORS)), chance.choice(weights)
            return Mutation('replace', path, pickles.TENSORS[what](value_at(content, path)), what)
        if how == 'call':
            what = chance.choice(list(pickles.CALLS))
            place = chance.choice([path, ('x',), ('meta',), ('state_dict', 'x'), ('message_hub',), ('state_dict',)])
            return Mutation('add', place, pickles.CALLS[what](), what)
        if how == 'delete':
            return Mutation('delete', chance.choice([path, ('state_dict',), ('meta',)]))
        if how == 'rename' and isinstance(value_at(content, path[:-1]), dict):
            names = [5, None, b'x', (1,), '', 'module.x', 'x' * 1000, f'module.{path[-1]}']
            return Mutation('rename', path, chance.choice(names))
        if how == 'all':
            what = chance.choice(ALL)
            state = {name: pickles.TENSORS[what](value) for name, value in content['state_dict'].items()}
            return Mutation('replace', ('state_dict',), state, f'all {what}')
        if chance.random() < .3:
            return Mutation('replace', (), values.drawn(values.anything, number), 'any')
        return Mutation('replace', chance.choice([path, ('state_dict',)]), values.drawn(values.anything, number), 'any')

    def _input(self, place: str, mutation: Mutation, write: Callable[[Path], None], changed: Any = None) -> Input:
        shipped = longer(self._configs.small(BASE), 2 if place == 'resume' else 1)
        content = with_checkpoint(shipped.content, place, FILE)
        original = str(self.folder / shipped.checkpoint)

        def setting(folder: Path) -> None:
            self._configs.lay_out(shipped, False, folder)
            write(folder / FILE)

        def work() -> Dict[str, Any]:
            return {**training.train(content, False, original), **_read_alone()}

        names = [FILE, 'teacher.checkpoint', 'load_from', 'resume', 'NaN or infinity',
                 *(key for key in mutation.path if isinstance(key, str))]
        if place != 'teacher':  # weights of 0 learn nothing: said of the distiller, which finds no gradients
            names.append('found no scale')
        return Input(place, [mutation], watched(work), setting,
                     lambda facts: _nonsense(place, facts, changed, mutation), names, place == 'teacher')

    def _pointer(self, number: int, chance: random.Random) -> Input:
        """A ``last_checkpoint`` with another content, in the work dir of a run that goes on by itself."""
        shipped = self._configs.small(BASE)
        whole = self.whole('resume').read_bytes()
        text = chance.choice([*POINTERS, str(values.drawn(values.texts, number))])
        content = dict(longer(shipped).content, resume=True)

        def setting(folder: Path) -> None:
            self._configs.lay_out(shipped, False, folder)
            (folder / 'run').mkdir()
            (folder / 'run/epoch_1.pth').write_bytes(whole)
            (folder / 'run/last_checkpoint').write_bytes(text.encode('utf-8', 'surrogateescape'))

        return Input('last_checkpoint', [Mutation('replace', ('last_checkpoint',), text)],
                     watched(lambda: training.train(content, False, str(self.folder / shipped.checkpoint))), setting,
                     lambda facts: _finished(facts), ['last_checkpoint', 'resume', 'epoch_1.pth'])


def with_checkpoint(content: Dict[str, Any], place: str, file: str) -> Dict[str, Any]:
    """A config that reads a checkpoint."""
    if place == 'teacher':
        model = dict(content['model'])
        model['teacher'] = dict(model['teacher'], checkpoint=file)
        return dict(content, model=model)
    return dict(content, load_from=file, resume=place == 'resume')


def leave_checkpoint(kind: Kind, configs: Configs, base: str, search: bool = False) -> Path:
    """Runs a config for two epochs, and keeps the checkpoint of the first."""
    unchanged = configs.of(longer(configs.small(base)), search, [Unchanged()])
    kept = kind.folder / f'{Path(base).stem}-{search}.pth'

    def work() -> Dict[str, Any]:
        facts = unchanged.work()
        newest = max(Path('run').rglob('epoch_1.pth'))
        kept.write_bytes(newest.read_bytes())
        return facts

    report = kind.run(unchanged, work)
    assert report.kind == 'done', f'{base} does not run: {report.text} {report.tail}'
    return kept


def longer(shipped: Shipped, epochs: int = 2) -> Shipped:
    """A shipped config, and its search, of so many epochs."""
    length = dict(max_epochs=epochs)
    hooks = shipped.content['default_hooks']
    content = dict(shipped.content, train_cfg=dict(shipped.content['train_cfg'], **length),
                   default_hooks=dict(hooks, checkpoint=dict(hooks['checkpoint'], interval=1, max_keep_ckpts=-1)))
    if shipped.searches:
        search = content['search']
        content['search'] = dict(search, config=dict(search.get('config') or {}, train_cfg=length))
    return replace(shipped, content=content)


def watched(work: Callable[[], Dict[str, Any]]) -> Callable[[], Dict[str, Any]]:
    """``work``, which also tells whether code of a file has run, however it ends."""
    def run() -> Dict[str, Any]:
        try:
            facts = work()
        finally:
            ran = Path(pickles.EXECUTED).exists()
            if ran:
                raise SystemExit(f'{pickles.EXECUTED}: code of the file ran')
        return facts
    return run


def _writing(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)
    return write


def _read_alone() -> Dict[str, Any]:
    """What Python's own reader of archives says of the file."""
    try:
        with zipfile.ZipFile(FILE) as archive:
            return dict(archive_is_whole=archive.testzip() is None)
    except Exception as error:  # whatever is wrong with it
        return dict(archive_is_whole=False, archive_error=str(error))


def _finished(facts: Dict[str, Any]) -> List[str]:
    found = [f'{name} is not finite' for name in facts['not_finite']]
    if facts['iterations'] != facts['length']:
        found.append(f'{facts["iterations"]} of {facts["length"]} iterations were done')
    return found + ([] if facts['weights_finite'] else ['weights are not finite'])


def _nonsense(place: str, facts: Dict[str, Any], changed: Any, mutation: Mutation) -> List[str]:
    """Why a checkpoint should not have been accepted."""
    found = _finished(facts)
    if place != 'teacher':
        return found
    if facts.get('teacher_as_saved'):
        return found
    if changed is None:
        whole = facts['archive_is_whole']
        return found + ([] if whole else ['the teacher has other weights, from a file that is damaged'])
    problem = _weights(changed, facts)
    return found + ([problem] if problem else [])


def _weights(content: Any, facts: Dict[str, Any]) -> str:
    """What is wrong with the weights in a checkpoint; '' if nothing is."""
    state: Optional[Any] = content.get('state_dict', content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        return 'it holds no weights'
    wanted: Dict[str, Tuple[Tuple[int, ...], bool]] = {name: (tuple(shape), floating) for name, shape, floating in facts[
        'teacher_weights']}
    state = {str(name).removeprefix('module.'): value for name, value in state.items()}
    for name, (shape, floating) in wanted.items():
        value = state.get(name)
        if name.endswith('num_batches_tracked') and value is None:
            continue
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
            return f'{name} is missing or of another shape'
        whole = not floating and value.is_floating_point() and bool((value == value.round()).all())  # a count as 3.0
        if value.is_complex() or not (value.is_floating_point() == floating or whole):
            return f'{name} has the type {value.dtype}'
        if floating and not bool(value.float().isfinite().all()):
            return f'{name} is not finite'
    if not any(bool(value.float().any()) for name, value in state.items() if isinstance(value, torch.Tensor)
               and value.is_floating_point() and name in wanted):
        return 'all weights are 0'
    return ''
