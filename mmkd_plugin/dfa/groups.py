"""Layer groups: which layers of the teacher are aggregated for which stage of the student."""
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from torch import nn

from ..core.distiller import pair_names
from ..core.errors import DistillationError, check_known_keys, check_number
from ..core.taps import TapAddress, TapInfo, resolve_module
from .aggregation import every_kth

BLOCK_LISTS = ('blocks', 'layers')  # where a stage that is no list itself keeps its blocks
ACCEPTED = ("Accepted: a list of stages, e.g. ['backbone.layer3', 'backbone.layer4'], of (student, teacher) pairs, or of "
            'dict(student=..., teacher=..., every=...); the teacher may be a list of taps.')


@dataclass(frozen=True)
class LayerGroup:
    """A group as found in the two models.

    Attributes:
        name: short and unique.
        student: tap of the student's feature.
        teacher: taps of the teacher's layers, shallow to deep.
    """
    name: str
    student: str
    teacher: Tuple[str, ...]


def find_groups(groups: Sequence[Any], every: int, student: nn.Module, teacher: nn.Module) -> List[LayerGroup]:
    """The groups of a config, with the blocks of every stage.

    A stage is a list of blocks (``nn.Sequential``, ``nn.ModuleList``), or a module that keeps them in ``blocks`` or
    ``layers``. Each block is tapped at ``@end``: before the activation that closes it. An address with a port, and the
    addresses of a list, are taken as they are.

    Args:
        groups: as the config has them.
        every: every how many blocks of a teacher's stage are taken, counted from the last.
        student, teacher: the two models.

    Raises:
        DistillationError: for anything that is not a group, or an address that does not exist.
    """
    if isinstance(groups, (str, dict)) or not isinstance(groups, Sequence) or not groups:
        raise DistillationError(f'groups: {groups!r} is not a list of groups. {ACCEPTED}')
    parsed = [_parse(group, every, number) for number, group in enumerate(groups)]
    names = pair_names([(ours, '') for ours, _, _ in parsed])
    found = []
    for number, (name, (ours, theirs, step)) in enumerate(zip(names, parsed)):
        try:
            found.append(LayerGroup(name, _last_block(student, ours), tuple(_blocks(teacher, theirs, step))))
        except DistillationError as error:
            raise DistillationError(f'groups[{number}]: {error}') from None
    return found


def check_order(groups: Sequence[LayerGroup], student: Dict[str, TapInfo], teacher: Dict[str, TapInfo]) -> None:
    """Makes sure that groups, and the layers of each, stand in the order of the forward.

    Args:
        groups: as found in the models.
        student, teacher: what the dry run found out about their taps.

    Raises:
        DistillationError: for a group that is deeper than the next, or there twice, or layers out of order.
    """
    for before, after in zip(groups, groups[1:]):
        if (before.student, before.teacher) == (after.student, after.teacher):
            raise DistillationError(f'groups: {after.student!r} is there twice. Accepted: each stage once.')
        if student[before.student].position > student[after.student].position:
            raise DistillationError(f'groups: {before.student!r} stands before {after.student!r}, but comes after it in the '
                                    'student. Accepted: shallow to deep.')
    for group in groups:
        for before, after in zip(group.teacher, group.teacher[1:]):
            if teacher[before].position > teacher[after].position:
                raise DistillationError(f'groups: {group.name}: layer {before!r} stands before {after!r}, but comes after '
                                        'it in the teacher. Accepted: shallow to deep.')


def _parse(group, every: int, number: int) -> Tuple[str, Any, int]:
    key = f'groups[{number}]'
    if isinstance(group, str):
        group = dict(student=group, teacher=group)
    elif isinstance(group, (list, tuple)) and len(group) == 2:
        group = dict(student=group[0], teacher=group[1])
    if not isinstance(group, dict) or not isinstance(group.get('student'), str):
        raise DistillationError(f'{key}: {group!r} is not a group. {ACCEPTED}')
    check_known_keys(key, group, ('student', 'teacher', 'every'))
    theirs = group.get('teacher', group['student'])
    listed = isinstance(theirs, (list, tuple)) and theirs and all(isinstance(tap, str) for tap in theirs)
    if not listed and not isinstance(theirs, str):
        raise DistillationError(f'{key}.teacher: {theirs!r} is neither a stage nor a list of taps. {ACCEPTED}')
    if listed and len(set(theirs)) < len(theirs):
        raise DistillationError(f'{key}.teacher: {theirs!r} has a tap twice. Accepted: each once.')
    if 'every' in group and not (isinstance(theirs, str) and _is_stage(theirs)):
        raise DistillationError(f'{key}.every: {group["every"]!r}, but the teacher is {theirs!r}. Accepted: with a stage '
                                'alone, whose blocks it thins out.')
    step = check_number(f'{key}.every' if 'every' in group else 'every', group.get('every', every), above=0, whole=True)
    return group['student'], theirs, step


def _last_block(student: nn.Module, address: str) -> str:
    if not _is_stage(address):
        return address
    blocks = _listed_blocks(student, address, 'student')
    return f'{blocks[-1] if blocks else address}@end'


def _blocks(teacher: nn.Module, theirs, every: int) -> List[str]:
    if not isinstance(theirs, str):
        return list(theirs)
    if not _is_stage(theirs):
        return [theirs]
    blocks = _listed_blocks(teacher, theirs, 'teacher')
    if not blocks:
        module = resolve_module(teacher, theirs, 'teacher')
        inside = ', '.join(name for name, _ in module.named_children())
        raise DistillationError(f"the teacher's {theirs!r} is a {type(module).__name__}, not a list of blocks, and "
                                f'has none named {" or ".join(BLOCK_LISTS)} (it contains: {inside or "nothing"}). Accepted: '
                                f"a list of taps, or {theirs + '@end'!r} for a group of this one layer.")
    return [f'{blocks[number]}@end' for number in every_kth(len(blocks), every)]


def _is_stage(address: str) -> bool:
    parsed = TapAddress.parse(address)
    return '@' not in address and parsed.index is None


def _listed_blocks(model: nn.Module, path: str, role: str) -> List[str]:
    """Paths of a stage's blocks, in order; none where it is no list and has none."""
    module = resolve_module(model, path, role)
    if not isinstance(module, (nn.Sequential, nn.ModuleList)):
        inner = next((name for name in BLOCK_LISTS
                      if isinstance(getattr(module, name, None), (nn.Sequential, nn.ModuleList))), None)
        if inner is None:
            return []
        path, module = f'{path}.{inner}', getattr(module, inner)
    return [f'{path}.{name}' for name, _ in module.named_children()]
