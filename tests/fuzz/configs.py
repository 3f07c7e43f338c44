"""Mutated configs: every shipped one, on the way of ``tools/train.py`` and ``tools/search.py``."""
import os
import random
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from . import documented, rules, shipped, training, values
from .inputs import Input, Kind
from .mutations import MISSING, Mutation, Unchanged, paths, value_at

MM_KEYS = ('optim_wrapper', 'train_cfg', 'default_hooks', 'randomness', 'default_scope', 'data_preprocessor', 'log_level',
           'custom_imports', 'val_cfg')
LEFT_ALONE = ('num_workers', 'length', 'max_epochs', 'max_iters', 'work_dir', 'batch_size', 'dump_path', 'out_dir')
"""Numbers that would only make a run long, and folders outside of the run's."""
NEW_KEYS = ['foo', 'typ', 'student', 'weight', 'loss_weigth', 'seed', '', 'a b', '_x', 'pairs', 'mode']
NEW_NAMES = ['_kept', '_rng_before', 'training', 'forward', 'teacher', 'distillers', 'a.b', '', 'my_loss', 'T_destination',
             'a b', 'parameters', 'student_taps', 'idle', 'non_finite', '__class__', '_modules', 'is_suspended', 'None', 5,
             None, True, 'ä', 'mmkd', 'begin', 'loss', 'losses', 'x' * 200, 'self', 'type', '1a', 'state_dict', 'call']
"""Names of distillers: most are taken, or are none."""


class Configs(Kind):
    """Shipped configs with a change."""
    name = 'configs'

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.names = shipped.names()
        self._small: Dict[str, shipped.Shipped] = {}
        self._results: Dict[str, Path] = {}

    def make(self, number: int, chance: random.Random) -> Input:
        name = self._chosen(chance)
        one = self.small(name)
        search = one.searches and chance.random() < .4
        if chance.random() < .03:  # the judge is looked at, too: what is whole has to pass
            return self.of(one, search, [Unchanged()])
        return self.of(one, search, [self.mutation(one, search, number, chance)])

    def unchanged(self, name: str, search: bool = False) -> Input:
        """The input that a shipped config is as it stands."""
        return self.of(self.small(name), search, [Unchanged()])

    def of(self, one: shipped.Shipped, search: bool, mutations: List[Mutation]) -> Input:
        """The input that a config with mutations is."""
        content: Any = one.content
        for mutation in mutations:
            content = mutation.applied(content)
        teacher = str(self.folder / one.checkpoint) if one.checkpoint else None
        ours = one.distilled and any(map(rules.is_ours, mutations))
        return Input(one.name, mutations, lambda: training.train(content, search, teacher),
                     lambda folder: self.lay_out(one, search, folder),
                     lambda facts: rules.nonsense(content, one, search, facts, mutations),
                     rules.naming(mutations, one.content), ours,
                     lambda: training.train(rules.without_distillation(content, search)), 'its search' if search else '')

    def small(self, name: str) -> shipped.Shipped:
        """A shipped config made small, once."""
        if name not in self._small:
            self._small[name] = shipped.small(name, self.folder)
        return self._small[name]

    def _chosen(self, chance: random.Random) -> str:
        while True:
            name = chance.choice(self.names)
            if self.small(name).distilled or chance.random() < .15:
                return name

    def mutation(self, one: shipped.Shipped, search: bool, number: int, chance: random.Random) -> Mutation:
        """A change of a config."""
        path, options = self._block(one.content, search, chance)
        if options is not None and chance.random() < .55:
            return self._option(one.content, path, options, number, chance)
        return self._structure(one.content, path, number, chance)

    def _block(self, content: Dict[str, Any], search: bool, chance: random.Random) -> Tuple[Tuple[Any, ...], Optional[Dict]]:
        """Where a config is to be changed: the path of a block, and its documented options if it is one of ours."""
        model = content['model']
        if 'distillers' not in model:
            return chance.choice([('model',), ('model', 'backbone'), ('model', 'backbone')]), None
        found = [(('model', 'distillers', name), documented.OPTIONS[block['type']], 8)
                 for name, block in model['distillers'].items()]
        found += [(('model', 'teacher'), documented.OPTIONS['teacher'], 3), (('model',), documented.OPTIONS['model'], 2),
                  (('model', 'distillers'), None, 1), (('model', 'student'), None, 1), ((chance.choice(MM_KEYS),), None, 1)]
        if not search:
            found += [(('custom_hooks', number), documented.HOOKS[hook['type']], 4)
                      for number, hook in enumerate(content['custom_hooks'])]
            found += [(('custom_hooks',), None, .3)]
        else:
            hook = next(hook for kind, hook in documented.SEARCH_HOOK_OF.items()
                        if any(block['type'] == kind for block in model['distillers'].values()))
            found += [(('search',), documented.SEARCH, 3), (('search', 'hook'), documented.HOOKS[hook], 5),
                      (('search', 'distiller'), documented.OPTIONS[next(
                          kind for kind, one in documented.SEARCH_HOOK_OF.items() if one == hook)], 3)]
        found = [one for one in found if value_at(content, one[0][:-1]) is not MISSING or len(one[0]) == 1]
        path, options, _ = chance.choices(found, [weight for *_, weight in found])[0]
        return path, options

    def _option(self, content: Any, path: Tuple[Any, ...], options: Dict[str, documented.Documented], number: int,
                chance: random.Random) -> Mutation:
        """Another value for a documented option, given in the config or not."""
        name = chance.choice(list(options))
        present = value_at(content, (*path, name))
        how = chance.random()
        if how < .35 and options[name].near:
            value, what = chance.choice(options[name].near), 'near'
        elif how < .55 and present is not MISSING:
            value, what = chance.choice(values.variants(present)), 'like it'
        else:
            value, what = values.drawn(values.anything, number), 'any'
        if value_at(content, path) is MISSING:
            return Mutation('add', path, {name: value}, what)
        return Mutation('add' if present is MISSING else 'replace', (*path, name), value, what)

    def _structure(self, content: Any, path: Tuple[Any, ...], number: int, chance: random.Random) -> Mutation:
        """A change of what stands in a block: keys, lists, taps, the block itself."""
        block = value_at(content, path)
        inner = [(*path, *deeper) for deeper in paths(block) if not set(LEFT_ALONE) & set(map(str, deeper))
                 and 'dataset' not in deeper and 'sampler' not in deeper] if block is not MISSING else []
        inner = [one for one in inner if len(one) - len(path) <= 4] or [path]
        chosen = chance.choice([path, *inner]) if chance.random() < .2 else chance.choice(inner)
        value = value_at(content, chosen)
        if value is MISSING:
            return Mutation('add', chosen, values.drawn(values.anything, number), 'any')
        operation = chance.choices(['replace', 'like', 'delete', 'rename', 'add', 'swap', 'tap'], [3, 4, 2, 2, 2, 1, 4])[0]
        if operation == 'tap':
            taps = [one for one in inner if isinstance(value_at(content, one), str) and '.layer' in value_at(content, one)]
            if taps:
                chosen = chance.choice(taps)
                return Mutation('replace', chosen, chance.choice(values.tap_variants(value_at(content, chosen))), 'tap')
            operation = 'like'
        if operation == 'rename' and isinstance(chosen[-1], str) and len(chosen) > 1:
            return Mutation('rename', chosen, chance.choice(self._new_names(chosen, content, chance)), 'misspelt')
        if operation == 'delete' and len(chosen) > 1:
            return Mutation('delete', chosen)
        if operation == 'add':
            dicts = [one for one in [path, *inner] if isinstance(value_at(content, one), dict)]
            if dicts:
                where = chance.choice(dicts)
                name = chance.choice(NEW_KEYS)
                return Mutation('add' if name not in value_at(content, where) else 'replace', (*where, name),
                                values.drawn(values.anything, number), 'new')
        if operation == 'swap' and len(inner) > 1:
            other = chance.choice(inner)
            if not _overlap(chosen, other):
                return Mutation('swap', chosen, other)
        if operation == 'like':
            return Mutation('replace', chosen, chance.choice(values.variants(value)), 'like it')
        return Mutation('replace', chosen, values.drawn(values.anything, number), 'any')

    @staticmethod
    def _new_names(path: Tuple[Any, ...], content: Any, chance: random.Random) -> List[Any]:
        if path[:2] == ('model', 'distillers') and len(path) == 3 and chance.random() < .7:
            return NEW_NAMES
        return [name for name in values.misspelt(path[-1]) if name not in value_at(content, path[:-1])] or ['foo']

    def lay_out(self, one: shipped.Shipped, search: bool, folder: Path) -> None:
        """What a config finds in its working directory: teachers, their weights, results of searches."""
        for name in ('teachers', 'work_dirs'):
            if (self.folder / name).is_dir():
                os.symlink(self.folder / name, folder / name)
        if one.searches and not search:
            self._put_result(one, folder / 'run' / 'search')
        for block in one.content['model'].get('distillers', {}).values():
            if isinstance(block.get('process'), str) and not search:
                self._put_result(one, (folder / block['process']).parent)

    def _put_result(self, one: shipped.Shipped, place: Path) -> None:
        self.result(one.name)
        if not place.is_dir():
            shutil.copytree(self._results[one.name], place)

    def result(self, name: str) -> Path:
        """The file that the search of a config writes; it is run once."""
        one = self.small(name)
        if one.name not in self._results:
            work = self.of(one, True, [Unchanged()])
            result = self.folder / 'results' / one.name.replace('/', '-')
            result.mkdir(parents=True)
            keep = {}

            def search() -> Dict[str, Any]:
                keep.update(work.work())
                for file in Path('run/search').glob('*.json'):
                    shutil.copy(file, result)
                return keep

            report = self.run(work, search)
            assert report.kind == 'done', f'the search of {one.name} does not run: {report.text} {report.tail}'
            self._results[one.name] = result
        return next(self._results[one.name].glob('*.json'))


def _overlap(one: Tuple[Any, ...], other: Tuple[Any, ...]) -> bool:
    return one[:len(other)] == other or other[:len(one)] == one
