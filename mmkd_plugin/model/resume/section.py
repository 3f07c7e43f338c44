"""The section ``mmkd`` of a checkpoint: what is written, and what is accepted when it is read.

Version 3::

    mmkd
      version       3
      distillers    by name, the distiller's state
      descriptions  by name, what has to be the same when it is gone on from
      hooks         by key, the states of stateful hooks
      teacher       its config, the hash of its weights, where they come from; of one with a name under <name>.config, ...
      runtime       by name, which variant of a teacher runtime='auto' has chosen; missing where it has not
      settings      by the key of a block, its options as text; missing in what older versions have saved
      position      epoch, iteration and seed, as in meta
      validated     whether the loop had asked for a validation
      ranks         for each rank: random generators, those of loader workers, buffers, accumulated gradients
      digest        SHA-256 over all of this

Version 2 had the random generators of rank 0 as ``rng`` in place of the last four.
"""
import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from torch import Tensor

from ...distiller import Distiller
from ...runtime import CHOICE
from ...utils.errors import DistillationError, under
from ...utils.isolation import pack_rng_state, unpack_rng_state
from ...utils.records import (
    Array,
    ChecksState,
    Entry,
    Fields,
    Listing,
    Maybe,
    Named,
    Plain,
    Shown,
    Truth,
    Whole,
    Words,
    like,
)
from ..distillation import Distillation
from .digest import digest
from .generators import check_rng_state

KEY = 'mmkd'
VERSION, READ = 3, (2, 3)
POSITION = ('epoch', 'iter', 'seed')
OPTIONAL = ('runtime', 'settings')
SAME_RUN = ('Resume with the config and the teacher that the run was begun with, or start from its weights with load_from '
            'without resume.')


@dataclass
class Section:
    """What is kept of distillation.

    Attributes:
        distillers: by name, the distiller's state.
        descriptions: by name, what has to be the same in a run that is resumed.
        hooks: by key, the states of stateful hooks.
        teacher: what is recorded about the teacher, or the teachers.
        runtime: by the name of a teacher, what ``runtime='auto'`` has chosen; None where it has not.
        position: epoch, iteration and seed of the checkpoint; None in version 2.
        validated: whether the loop had asked for a validation; None in version 2.
        ranks: by rank, what it has of its own.
        settings: by the key of a block of the config, its options as text; None where a checkpoint does not have them.
    """
    distillers: Dict[str, Dict[str, Tensor]]
    descriptions: Dict[str, str]
    hooks: Dict[str, Any]
    teacher: Dict[str, str]
    position: Optional[Dict[str, Any]]
    validated: Optional[bool]
    ranks: Sequence[Mapping[str, Any]]
    runtime: Optional[Dict[str, Dict[str, bool]]] = None
    settings: Optional[Dict[str, Dict[str, str]]] = None

    def content(self) -> Dict[str, Any]:
        """For the checkpoint."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        known = {name: value for name, value in fields.items() if value is not None or name not in OPTIONAL}
        content = dict(version=VERSION, **known)
        return dict(content, digest=digest(content))


def position_of(meta: Mapping[str, Any]) -> Dict[str, Any]:
    """What a checkpoint's meta says about where it was saved."""
    return {name: meta.get(name) for name in POSITION}


def describe(distiller: Distiller) -> str:
    """What has to be the same in a run that is resumed."""
    calibration = distiller.strength.calibration
    return distiller.describe() + ('' if calibration is None else f", loss_scale 'auto' {calibration.describe()}")


def read_section(checkpoint: Mapping[str, Any], distillation: Distillation, hooks: Mapping[str, Entry]) -> Section:
    """The section of a checkpoint, once all of it has been checked.

    Args:
        checkpoint: what the file holds.
        distillation: what goes on from it.
        hooks: by key, what the states of the run's stateful hooks have to be.

    Raises:
        DistillationError: for the first entry that does not fit, with its path; for a section of another run; for one that
            has been changed.
    """
    content = checkpoint.get(KEY)
    if content is None:
        raise refused('the checkpoint holds no distillation state (key "mmkd"): it is not from a distillation run',
                      'To start from its weights, use load_from without resume.')
    with under(KEY):
        _check_version(content)
        _form(content['version']).check(content)
    _check_that_it_is_ours(content, distillation, hooks)
    with under(KEY):
        with under('distillers'):
            for name, distiller in distillation.distillers.items():
                with under(name):
                    _state_of(distiller).check(content['distillers'][name])
        with under('hooks'):
            Fields(hooks).check(content['hooks'])
        if content['version'] == 2:
            with under('rng'):
                check_rng_state(content['rng'])
            return Section(position=None, validated=None, ranks=[dict(rng=content['rng'])],
                           **{name: content[name] for name in ('distillers', 'descriptions', 'hooks', 'teacher')})
        with under('runtime'):
            names = distillation.teachers.runtimes
            Fields(dict.fromkeys(names, CHOICE), optional=names).check(content.get('runtime', {}))
        with under('ranks'):
            _check_ranks(content['ranks'])
    section = Section(**{field.name: content[field.name] for field in dataclasses.fields(Section) if field.name in content})
    _check_that_it_is_unchanged(section, content['digest'], checkpoint['meta'])
    return section


def _check_version(content: Any) -> None:
    if not isinstance(content, dict):
        raise DistillationError(given=Shown(content), accepted='a dict, as a distilled run saves it')
    if 'version' not in content:
        raise DistillationError('is missing', path='version', accepted=' or '.join(map(str, READ)))
    version = content['version']
    if type(version) is not int or version not in READ:
        raise DistillationError(
            f'is the version of its distillation state; this package goes on from version {" or ".join(map(str, READ))}',
            path='version', given=Shown(version), hint='Finish the run with the mmkd_plugin it was begun with (version 1: '
            '0.1), or start from its weights with load_from without resume.')


def _form(version: int) -> Entry:
    """What a section has to be, whatever the run."""
    common: Dict[str, Entry] = dict(
        version=Whole(2), distillers=Named(Named(Array(finite=False))), descriptions=Named(Words()), hooks=Named(Plain()),
        teacher=Named(Words()))
    if version == 2:
        return Fields(dict(common, rng=Named(Plain())))
    rank = Fields(dict(rng=Named(Plain()), workers=Named(Array(torch.long)), buffers=Named(Named(Array(finite=False))),
                       gradients=Named(_Gradient())))
    position = Fields(dict(epoch=Whole(), iter=Whole(), seed=Maybe(Whole())))
    return Fields(dict(common, position=position, validated=Truth(), ranks=Listing(rank), digest=Words(),
                       runtime=Named(CHOICE), settings=Named(Named(Words()))), optional=OPTIONAL)


class _Gradient(Entry):
    """In mixed precision, accumulated gradients may have overflown."""
    accepted = 'a tensor'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, Tensor), value)


def _state_of(distiller: Distiller) -> Entry:
    entries: Dict[str, Entry] = {name: like(value) for name, value in distiller.state_dict().items()}
    for place, module in distiller.named_modules():
        if isinstance(module, ChecksState):
            entries.update({f'{place}.{name}' if place else name: entry for name, entry in module.state_entries().items()})
    return Fields(entries)


def _check_ranks(ranks: List[Mapping[str, Any]]) -> None:
    if not ranks:
        raise DistillationError(given=Shown(ranks), accepted='a list with an entry for each rank')
    for number, rank in enumerate(ranks):
        with under(f'[{number}]'):
            with under('rng'):
                check_rng_state(rank['rng'])
            for name, states in rank['workers'].items():
                with under(f'workers.{name}'):
                    Array(torch.long, (len(states) if states.dim() else 0, len(pack_rng_state()))).check(states)
                    for worker in states:
                        if bool(worker.any()):
                            check_rng_state(unpack_rng_state(worker))


def _check_that_it_is_ours(content: Mapping[str, Any], distillation: Distillation, hooks: Mapping[str, Entry]) -> None:
    ours, theirs = list(distillation.distillers), list(content['distillers'])
    if ours != theirs:
        raise refused(f'the checkpoint has the distillers {theirs}, the config {ours}')
    _check_teachers(distillation.teachers.identity, content['teacher'])
    with under(f'{KEY}.descriptions'):
        Fields({name: Words() for name in ours}).check(content['descriptions'])
    for name, distiller in distillation.distillers.items():
        if describe(distiller) != content['descriptions'][name]:
            raise refused(f'{distiller.path} is not the one of the checkpoint. Checkpoint: '
                          f'{content["descriptions"][name]}. Config: {describe(distiller)}')
    if set(hooks) != set(content['hooks']):
        raise refused(f'the checkpoint has the state of the hooks {sorted(content["hooks"])}, the config has '
                      f'{sorted(hooks)}')


def _check_teachers(here: Mapping[str, str], there: Mapping[str, str]) -> None:
    ours, theirs = _hashes(here), _hashes(there)
    if ours.keys() - {''} != theirs.keys() - {''}:
        saved, present = (', '.join(filter(None, names)) or 'one without a name' for names in (theirs, ours))
        raise refused(f'the checkpoint was distilled from other teachers ({saved}; now {present})')
    for name, now in ours.items():
        then = theirs.get(name, '')
        if now != then:
            raise refused(f'the checkpoint was distilled from a teacher {f"{name!r} " if name else ""}with other weights '
                          f'(sha256 {then[:12]}..., now {now[:12]}...)')


def _hashes(teachers: Mapping[str, str]) -> Dict[str, str]:
    """The hash of each teacher's weights by its name; that of one without a name under ''."""
    return {key.rpartition('.')[0]: value for key, value in teachers.items() if key.rpartition('.')[2] == 'sha256'}


def _check_that_it_is_unchanged(section: Section, saved: str, meta: Mapping[str, Any]) -> None:
    if section.content()['digest'] != saved:
        raise DistillationError('has been changed after it was saved', path=KEY,
                                hint='Resume from another checkpoint of the run.')
    if section.position is not None:
        for name, value in section.position.items():
            if meta.get(name) != value:
                raise DistillationError('has been changed after it was saved', path=f'meta.{name}',
                                        given=Shown(meta.get(name)), accepted=f'{value!r}, as under "{KEY}"',
                                        hint='Resume from another checkpoint of the run.')


def refused(problem: str, hint: str = SAME_RUN) -> DistillationError:
    """An error about resuming as a whole."""
    return DistillationError(problem, path='resume', hint=hint)


