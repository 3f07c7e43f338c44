"""What a process weighs: DistPro's own pathways, and losses of the model's other distillers."""
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from ..utils.errors import DistillationError, check_known_keys
from .pathways import Pathway, name_pathways

PATHWAY_KEYS, OTHER_KEYS = ('teacher', 'student', 'transform'), ('distiller', 'loss')
"""How a file and a `pathway_map` say the two kinds of members."""


@dataclass(frozen=True)
class OtherLoss:
    """The losses of another distiller of the model.

    Attributes:
        distiller: its name in the config.
        loss: one of its losses; None for their sum.
    """
    distiller: str
    loss: Optional[str] = None

    @classmethod
    def parse(cls, text: str) -> 'OtherLoss':
        """From ``'mgd'`` or ``'mgd.loss_layer4'``."""
        distiller, _, loss = text.partition('.')
        return cls(distiller, loss or None)

    def __str__(self) -> str:
        return self.distiller if self.loss is None else f'{self.distiller}.{self.loss}'


Member = Union[Pathway, OtherLoss]


def name_members(members: Sequence[Member]) -> List[str]:
    """A short, unique name for each member, for logs and plots; none has 'loss' in it, which a log would add up."""
    pathways = iter(name_pathways([member for member in members if isinstance(member, Pathway)]))
    return [next(pathways) if isinstance(member, Pathway) else str(member).replace('.loss_', '.').replace('loss', '')
            for member in members]


def entry_of(member: Member) -> Dict[str, str]:
    """A member as it stands in a file."""
    return {key: value for key, value in vars(member).items() if value is not None}


def member_of(entry: Mapping[str, str]) -> Member:
    """The member that an entry of a file is; it has the keys of one kind."""
    return OtherLoss(**entry) if 'distiller' in entry else Pathway(**entry)


def is_entry(value: Any) -> bool:
    """Whether a value from a file has the keys of a member."""
    return isinstance(value, dict) and (set(value) == set(PATHWAY_KEYS)
                                        or {'distiller'} <= set(value) <= set(OTHER_KEYS))


def rename(members: Sequence[Member], names: Mapping[str, Mapping[str, str]]) -> List[Member]:
    """Members with other taps, transforms, distillers and losses, for replaying a process on other networks.

    Args:
        members: those of the file.
        names: by ``teacher``, ``student``, ``transform``, ``distiller`` and ``loss``, a dict from the file's name to the new
            one.

    Raises:
        DistillationError: for a name that is not in the file.
    """
    check_known_keys('pathway_map', names, (*PATHWAY_KEYS, *OTHER_KEYS))
    entries = [entry_of(member) for member in members]
    for side, new in names.items():
        check_known_keys(f'pathway_map.{side}', new, list(dict.fromkeys(entry[side] for entry in entries if side in entry)))
    return [member_of({side: names.get(side, {}).get(name, name) for side, name in entry.items()}) for entry in entries]


def describe_difference(file: Sequence[Member], config: Sequence[Member]) -> str:
    """In what two lists of members differ, in words; '' where they do not."""
    if list(file) == list(config):
        return ''
    what = 'pathways' if all(isinstance(member, Pathway) for member in (*file, *config)) else 'members'
    if len(file) != len(config):
        return f'{len(file)} {what} in the file, {len(config)} in the config'
    if set(file) == set(config):
        return f'the same {what} in another order'
    return 'other taps or transforms' if what == 'pathways' else 'other members'


def check_different(members: Sequence[Member]) -> None:
    """Raises :class:`DistillationError` where two members are the same, or one is part of another."""
    others = [member for member in members if isinstance(member, OtherLoss)]
    for number, member in enumerate(others):
        for before in others[:number]:
            if member == before or (member.distiller == before.distiller and None in (member.loss, before.loss)):
                raise DistillationError(f'has {str(member)!r} beside {str(before)!r}',
                                        given=[str(other) for other in others],
                                        accepted='each loss once: a distiller whole, or its losses one by one')
