"""Layer groups: which layers of the teacher are aggregated for which stage of the student."""
from dataclasses import dataclass
from typing import Any, List, Mapping, Sequence, Tuple

from torch import nn

from ..distiller import ParsedPair, pair_names
from ..taps import TapAddress, TapInfo, resolve_module
from ..utils.errors import DistillationError, under
from .aggregation import every_kth

BLOCK_LISTS = ('blocks', 'layers')  # where a stage that is no list itself keeps its blocks


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


def find_groups(pairs: Sequence[ParsedPair], every: int, student: nn.Module, teacher: nn.Module) -> List[LayerGroup]:
    """The groups of a config, with the blocks of every stage.

    A stage is a list of blocks (``nn.Sequential``, ``nn.ModuleList``), or a module that keeps them in ``blocks`` or
    ``layers``. Each block is tapped at ``@end``: before the activation that closes it. An address with a port, and the
    addresses of a list, are taken as they are.

    Args:
        pairs: the student's stage and the teacher's stage, or list of taps, of each group, shallow to deep.
        every: every how many blocks of a teacher's stage are taken, counted from the last, where a pair does not say it.
        student, teacher: the two models.

    Raises:
        DistillationError: for an address that does not exist, or a stage without blocks; its path begins with the number.
    """
    found = []
    for number, (name, pair) in enumerate(zip(pair_names(pairs), pairs)):
        with under(f'[{number}]'):
            if 'every' in pair.more and not (isinstance(pair.teacher, str) and _is_stage(pair.teacher)):
                raise DistillationError(f'has no meaning with the teacher {pair.teacher!r}', path='every',
                                        given=pair.more['every'], accepted='with a stage alone, whose blocks it thins out')
            step = pair.more.get('every', every)
            found.append(LayerGroup(name, _last_block(student, pair.student), tuple(_blocks(teacher, pair.teacher, step))))
    return found


def check_order(groups: Sequence[LayerGroup], student: Mapping[str, TapInfo],
                teacher: Mapping[str, TapInfo]) -> None:
    """Makes sure that groups, and the layers of each, stand in the order of the forward.

    Args:
        groups: as found in the models.
        student, teacher: what the dry run found out about their taps.

    Raises:
        DistillationError: for a group that is deeper than the next, or there twice, or layers out of order.
    """
    for before, after in zip(groups, groups[1:]):
        if (before.student, before.teacher) == (after.student, after.teacher):
            raise DistillationError('is there twice', given=after.student, accepted='each stage once')
        if student[before.student].position > student[after.student].position:
            raise DistillationError(f'stands before {after.student!r}, but comes after it in the student',
                                    given=before.student, accepted='shallow to deep')
    for group in groups:
        for layer, following in zip(group.teacher, group.teacher[1:]):
            if teacher[layer].position > teacher[following].position:
                raise DistillationError(f'(a layer of {group.name}) stands before {following!r}, but comes after it in the '
                                        'teacher', given=layer, accepted='shallow to deep')


def _last_block(student: nn.Module, address: str) -> str:
    if not _is_stage(address):
        return address
    blocks = _listed_blocks(student, address, 'student')
    return f'{blocks[-1] if blocks else address}@end'


def _blocks(teacher: nn.Module, theirs: Any, every: int) -> List[str]:
    if not isinstance(theirs, str):
        return list(theirs)
    if not _is_stage(theirs):
        return [theirs]
    blocks = _listed_blocks(teacher, theirs, 'teacher')
    if not blocks:
        module = resolve_module(teacher, TapAddress.parse(theirs).path, 'teacher')
        inside = ', '.join(name for name, _ in module.named_children())
        raise DistillationError(
            f"is a {type(module).__name__} of the teacher, not a list of blocks, and has none named "
            f'{" or ".join(BLOCK_LISTS)} (it contains: {inside or "nothing"})', given=theirs,
            accepted=f"a list of taps, or {theirs + '@end'!r} for a group of this one layer")
    return [f'{blocks[number]}@end' for number in every_kth(len(blocks), every)]


def _is_stage(address: str) -> bool:
    parsed = TapAddress.parse(address)
    return '@' not in address and parsed.index is None


def _listed_blocks(model: nn.Module, path: str, role: str) -> List[str]:
    """Addresses of a stage's blocks, in order; none where it is no list and has none."""
    module = resolve_module(model, TapAddress.parse(path).path, role)
    if not isinstance(module, (nn.Sequential, nn.ModuleList)):
        inner = next((name for name in BLOCK_LISTS
                      if isinstance(getattr(module, name, None), (nn.Sequential, nn.ModuleList))), None)
        if inner is None:
            return []
        path, module = f'{path}.{inner}', getattr(module, inner)
    return [f'{path}.{name}' for name, _ in module.named_children()]


def has_blocks(model: nn.Module, address: str) -> bool:
    """Whether an address is that of a stage whose blocks are taken one by one; one layer alone has none."""
    return _is_stage(address) and bool(_listed_blocks(model, address, 'teacher'))
