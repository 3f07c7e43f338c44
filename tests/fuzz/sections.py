"""Tampered parts of a checkpoint that a run goes on from: the section ``mmkd``, and those that mmengine writes."""
import random
from pathlib import Path
from typing import Any, Dict, List

import torch

from . import pickles, training, values
from .checkpoints import FILE, leave_checkpoint, longer, watched, with_checkpoint
from .configs import Configs
from .inputs import Input, Kind
from .mutations import Mutation, dotted, paths, value_at

BASES = [('classification/cifar100-20/mgd-amp-kd_resnet14x2-resnet8_8e_cifar100-20.py', False),
         ('classification/cifar100-20/l2_resnet14x2-resnet8_8e_cifar100-20.py', False),
         ('classification/cifar100-20/distpro_resnet14x2-resnet8_8e_cifar100-20.py', False),
         ('classification/cifar100-20/distpro_resnet14x2-resnet8_8e_cifar100-20.py', True),
         ('classification/cifar100-20/dfa_resnet14x2-resnet8_8e_cifar100-20.py', True),
         ('classification/cifar100-20/dfa-average_resnet14x2-resnet8_8e_cifar100-20.py', False)]
NOT_READ = ('meta.config', 'meta.cfg', 'meta.time', 'meta.mmengine_version', 'meta.experiment_name', 'meta.hook_msgs',
            'meta.dataset_meta', 'meta.seed')
"""Notes: nothing that a run goes on with."""


class Sections(Kind):
    """Checkpoints of distilled runs with a change in one of their parts."""
    name = 'sections'

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._configs = Configs(folder)
        self._saved: Dict[Any, Any] = {}

    def make(self, number: int, chance: random.Random) -> Input:
        base, search = chance.choice(BASES)
        content = self.whole(base, search)
        data = None
        while data is None:
            mutation = self._change(content, number, chance)
            data = pickles.saved(mutation.applied(content))
        return self._input(base, search, content, mutation, data)

    def whole(self, base: str, search: bool) -> Dict[str, Any]:
        """What the checkpoint of a run holds."""
        if (base, search) not in self._saved:
            self._saved[base, search] = torch.load(leave_checkpoint(self, self._configs, base, search), weights_only=False)
        return self._saved[base, search]

    def _change(self, content: Dict[str, Any], number: int, chance: random.Random) -> Mutation:
        ours = chance.random() < .7
        top = ('mmkd',) if ours else (chance.choice([key for key in content if key != 'mmkd']),)
        found = [(*top, *path) for path in paths(value_at(content, top))] or [top]
        # A generator's state has hundreds of numbers: most changes are elsewhere.
        few = [path for path in found if 'rng' not in path or len(path) <= 4 and path[-1] not in range(5, 700)]
        path = chance.choice([top, *few]) if chance.random() < .05 else chance.choice(few)
        value = value_at(content, path)
        how = chance.choices(['tensor', 'any', 'like', 'delete', 'rename', 'add', 'swap', 'call'],
                             [3, 3, 4, 3, 1, 2, 1, 1])[0]
        if isinstance(value, torch.Tensor) and how in ('tensor', 'like'):
            what = chance.choice([*pickles.TENSORS, *SHIFTS])
            return Mutation('replace', path, ({**pickles.TENSORS, **SHIFTS})[what](value), what)
        if how == 'delete':
            return Mutation('delete', path)
        if how == 'rename' and isinstance(path[-1], str):
            return Mutation('rename', path, chance.choice(values.misspelt(path[-1])), 'misspelt')
        if how == 'add':
            return Mutation('add', (*path[:-1], 'foo') if isinstance(path[-1], str) else (*top, 'foo'),
                            values.drawn(values.anything, number), 'new')
        if how == 'swap':
            other = chance.choice(few)
            if other[:len(path)] != path[:len(other)]:
                return Mutation('swap', path, other)
        if how == 'call':
            what = chance.choice(list(pickles.CALLS))
            return Mutation('replace', path, pickles.CALLS[what](), what)
        new = chance.choice(values.variants(value)) if how == 'like' else values.drawn(values.anything, number)
        return Mutation('replace', path, new, 'like it' if how == 'like' else 'any')

    def _input(self, base: str, search: bool, content: Dict[str, Any], mutation: Mutation, data: bytes) -> Input:
        shipped = longer(self._configs.small(base))
        cfg = with_checkpoint(shipped.content, 'resume', FILE)

        def setting(folder: Path) -> None:
            self._configs.lay_out(shipped, search, folder)
            (folder / FILE).write_bytes(data)

        teacher = str(self.folder / shipped.checkpoint)
        paths_changed = [mutation.path, mutation.value] if mutation.operation == 'swap' else [mutation.path]
        keys = [key for path in paths_changed for key in path if isinstance(key, str)]
        ours = any(path[0] == 'mmkd' for path in paths_changed)
        names = ['resume', FILE, *keys, *map(dotted, paths_changed)]
        return Input(base, [mutation], watched(lambda: training.train(cfg, search, teacher)), setting,
                     lambda facts: _nonsense(facts, content, mutation, paths_changed), names, ours,
                     about='its search' if search else '')


SHIFTS = {
    'moved a little': lambda value: value + 1 if not value.is_floating_point() and value.dtype != torch.bool else
    value * 1.01 if value.is_floating_point() else ~value,
    'negative': lambda value: -value.to(torch.int64) - 1 if not value.is_floating_point() else -value.abs() - 1,
    'large': lambda value: torch.full_like(value.float() if value.dtype == torch.bool else value, 100),
    'reversed': lambda value: value.flip(0) if value.dim() else value}
"""By name: other tensors of the same shape."""


def _nonsense(facts: Dict[str, Any], content: Dict[str, Any], mutation: Mutation, changed: List[Any]) -> List[str]:
    """Why a checkpoint should not have been gone on from."""
    found = [f'{name} is not finite' for name in facts['not_finite']]
    found += [] if facts['weights_finite'] else ['weights are not finite']
    if not facts.get('teacher_as_saved'):
        found.append('the teacher is another')
    if any(path[0] == 'mmkd' for path in changed):
        if facts['iterations'] != facts['length']:
            found.append(f'{facts["iterations"]} of {facts["length"]} iterations were done')
        found += _of_section(content, mutation)
    return found


def _of_section(content: Dict[str, Any], mutation: Mutation) -> List[str]:
    """What may be another value in ``mmkd`` without anybody being able to tell: a finite number, a tensor of its kind."""
    if mutation.operation in ('delete', 'rename'):
        return [f'{dotted(mutation.path)} is missing']
    if mutation.operation == 'add':
        return [f'{dotted(mutation.path)} is no key']
    if mutation.operation == 'swap':
        one, other = value_at(content, mutation.path), value_at(content, mutation.value)
        return [] if _alike(one, other) else ['two values were swapped that are not of one kind']
    before, after = value_at(content, mutation.path), mutation.value
    return [] if _alike(before, after) else [f'{dotted(mutation.path)} is of another kind than what was saved']


def _alike(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return (isinstance(after, torch.Tensor) and after.dtype == before.dtype and after.shape == before.shape
                and (not after.is_floating_point() or bool(after.isfinite().all())))
    if isinstance(before, dict):
        same = isinstance(after, dict) and list(after) == list(before)
        return same and all(_alike(before[key], after[key]) for key in before)
    if isinstance(before, (list, tuple)):
        return type(after) is type(before) and len(after) == len(before) and all(map(_alike, before, after))
    if isinstance(before, float) and isinstance(after, float):
        return after == after and abs(after) != float('inf')
    return type(before) is type(after)
