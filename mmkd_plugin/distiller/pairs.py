"""What is compared with what: one way to say it for all distillers.

A list with, for each comparison, a (student tap, teacher tap), a ``dict(student=..., teacher=...)``, or one address that
both models have::

    pairs=['backbone.layer4@preact', ('neck[0]', 'neck[1]')]

With several teachers the teacher's side begins with a name, ``'big:neck[1]'``; so does one address for both.
"""
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

from ..taps import TapAddress, TapInfo, TapText, without_teacher
from ..utils.errors import DistillationError, check_known_keys
from ..utils.kinds import ReadKind
from ..utils.mmrazor import hint_for
from ..utils.options import Kind, ListOf, Options

Pair = Union[str, Sequence[Any], Dict[str, Any]]
EXAMPLE = "e.g. [('backbone.layer4@preact', 'backbone.layer4@preact')]"


@dataclass(frozen=True)
class ParsedPair:
    """One comparison.

    Attributes:
        student: tap of the student.
        teacher: tap of the teacher; where a distiller takes several layers, a list of them.
        more: further keys of the pair, where a distiller has some.
    """
    student: str
    teacher: Any
    more: Dict[str, Any] = field(default_factory=dict)

    @property
    def teacher_taps(self) -> List[str]:
        """The teacher's side as a list."""
        return list(self.teacher) if isinstance(self.teacher, list) else [self.teacher]

    def __iter__(self) -> Any:
        return iter((self.student, self.teacher))

    def __repr__(self) -> str:
        """As a config would have it."""
        if self.more:
            return repr(dict(student=self.student, teacher=self.teacher, **self.more))
        return repr(self.student) if self.student == self.teacher else repr((self.student, self.teacher))


@dataclass(frozen=True)
class Pairs(ReadKind):
    """The kind of an option that says what is compared with what.

    Args:
        several: whether the teacher's side of a pair may be a list of taps.
        more: further keys that a pair may have where it is a dict, each with its kind.
        length: how many pairs there have to be; at least one if None.
    """
    several: bool = False
    more: Tuple[Tuple[str, Kind], ...] = ()
    length: Union[int, None] = None

    @property
    def accepted(self) -> str:
        keys = ''.join(f', {name}=...' for name, _ in self.more)
        lists = '; the teacher may be a list of taps' if self.several else ''
        count = f'list with {self.length} item' if self.length else 'list'
        return (f'a {count}: (student tap, teacher tap), dict(student=..., teacher=...{keys}), or one address for both, '
                f'{EXAMPLE}{lists}')

    def read(self, value: Any) -> List[ParsedPair]:
        """The pairs. Raises :class:`DistillationError` for anything else; its path says which one."""
        if not isinstance(value, (list, tuple)) or not value or (self.length and len(value) != self.length):
            raise DistillationError('is no list of pairs', given=value, accepted=self.accepted, hint=_hint(value))
        if isinstance(value, tuple) and len(value) == 2 and all(isinstance(item, str) for item in value):
            raise DistillationError('may be one pair or two', given=value, accepted=self.accepted,
                                    hint=f'Write {[value]!r} for one pair, {list(value)!r} for two, each the same tap on '
                                    'both sides.')
        return [self._read(pair, f'[{number}]') for number, pair in enumerate(value)]

    def _read(self, pair: Any, path: str) -> ParsedPair:
        if isinstance(pair, ParsedPair):
            return pair
        if isinstance(pair, str):
            pair = dict(student=without_teacher(pair), teacher=pair)
        elif isinstance(pair, (list, tuple)) and len(pair) == 2:
            pair = dict(student=pair[0], teacher=pair[1])
        if not isinstance(pair, dict) or 'student' not in pair or not (self.several or 'teacher' in pair):
            raise DistillationError('is no pair of taps', path=path, given=pair, accepted=self.accepted, hint=hint_for(pair))
        kinds = dict(self.more)
        check_known_keys(path, pair, ('student', 'teacher', *kinds))
        theirs = pair.get('teacher', pair['student'])
        several = self.several and not isinstance(theirs, str)
        teacher: Kind = ListOf(TapText(), 'taps, or the address of one', different=True) if several else TapText()
        found = {}
        for name, kind in dict(student=TapText('student'), teacher=teacher, **kinds).items():
            if name in pair or name == 'teacher':
                try:
                    found[name] = kind.read(theirs if name == 'teacher' else pair[name])
                except DistillationError as error:
                    raise error.at(f'{path}.{name}') from None
        return ParsedPair(found.pop('student'), found.pop('teacher'), found)


def _hint(value: Any) -> str:
    """What a recorder of mmrazor, or a dict of them, is here."""
    hints = map(hint_for, [value, *(value.values() if isinstance(value, dict) else ())])
    return next(filter(None, hints), '')


def check_pair_order(pairs: Sequence[ParsedPair], student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo],
                     accepted: str = 'pairs from shallow to deep, on both sides') -> None:
    """Raises :class:`DistillationError` unless the pairs stand in the order of the forward, on both sides.

    The deeper tap of one side belongs to the deeper tap of the other; and what weighs stages counts them in this order.
    With several teachers that goes for the pairs of each.

    Args:
        pairs: the pairs of a distiller.
        student, teacher: what the dry run found out about the taps, by address.
        accepted: what may be given instead, in words.
    """
    names = [TapAddress.parse(pair.teacher).teacher for pair in pairs]
    for number, before in enumerate(pairs):
        later = [pair for pair, name in zip(pairs[number + 1:], names[number + 1:]) if name == names[number]]
        if (before.student, before.teacher) in [(pair.student, pair.teacher) for pair in later]:
            raise DistillationError('is there twice', path=f'[{number}]', given=before, accepted='each pair once')
        for side, infos in (('student', student), ('teacher', teacher)) if later else ():
            first, second = (getattr(pair, side) for pair in (before, later[0]))
            if infos[first].position > infos[second].position:
                raise DistillationError(f'stands before {second!r}, but comes after it in the {side}', given=first,
                                        path=f'[{number}].{side}', accepted=accepted)


def key_of_tap(options: Options, side: str, address: str) -> str:
    """The key under which a tap stands in the options of a distiller, e.g. ``'pairs[0].student'``; '' where none says it.

    Args:
        options: the options.
        side: ``'student'`` or ``'teacher'``.
        address: the tap.
    """
    for field_ in fields(options):
        listed = getattr(options, field_.name)
        for number, pair in enumerate(listed if isinstance(listed, (list, tuple)) else ()):
            found = getattr(pair, side) if isinstance(pair, ParsedPair) else ()
            if address == found:
                return f'{field_.name}[{number}].{side}'
            if isinstance(found, list) and address in found:
                return f'{field_.name}[{number}].{side}[{found.index(address)}]'
    return ''


def pair_names(pairs: Sequence[ParsedPair]) -> List[str]:
    """A short, unique name per pair, for its loss: that of the student's tap."""
    return short_names([pair.student for pair in pairs])


def short_names(addresses: Sequence[str]) -> List[str]:
    """A short, unique name per address: the last part of its path, or its position where that repeats.

    A part that is a number says nothing alone: ``'backbone.stages.2'`` is ``'stages.2'``.
    """
    names = [_last_part(address.split('@')[0].replace('[', '').replace(']', '')) for address in addresses]
    # A log name with "loss" in it would be added to the total.
    return [name if names.count(name) == 1 and not name.lstrip('-').isdigit() and 'loss' not in name else str(number)
            for number, name in enumerate(names)]


def _last_part(path: str) -> str:
    before, _, last = path.rpartition('.')
    return f'{_last_part(before)}.{last}' if before and last.isdigit() else last


def describe_pairs(pairs: Sequence[ParsedPair]) -> str:
    """Which loss compares which taps, in one line."""
    return ', '.join(f'loss_{name}: student {pair.student} with teacher {pair.teacher}'
                     for name, pair in zip(pair_names(pairs), pairs))
