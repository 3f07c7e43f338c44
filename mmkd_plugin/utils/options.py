"""Options as data: name, type, accepted values, default and meaning in one place, from which all else is made.

A class that is built from a config declares its options as a frozen dataclass::

    @dataclass(frozen=True, kw_only=True)
    class Options(options.Options):
        temperature: float = option(Number(above=0), 1.0, 'T of the softmax')
        values: Optional[List[float]] = option(Either(ListOf(Number(), 'numbers'), (None,)), None, 'what is used',
                                               only=dict(mode=('constant',)))

``Options.read(given)`` checks a dict of values and names in one error what does not fit; :func:`reference_table` is the
table in the documentation. The kinds of values (:class:`Number`, :class:`Choice`, ...) say in words what they accept, once.
``only`` says beside which values of other options an option has a meaning; given beside others it is refused, not ignored.
"""
import copy
import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Callable, ClassVar, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar, Union

from .errors import DistillationError, check_known_keys, nearest_names, under, unknown_name

Own = TypeVar('Own', bound='Options')
Beside = Mapping[str, Sequence[Any]]
"""Values of other options, by name: all of these options have one of their values."""

FLOAT32_MOST, FLOAT32_LEAST = 3.4028234e38, 1.1754944e-38
INT64_MOST = 2 ** 63 - 1


class Kind(ABC):
    """A kind of value."""

    @property
    @abstractmethod
    def accepted(self) -> str:
        """What fits, in words."""

    @abstractmethod
    def fits(self, value: Any) -> bool:
        """Whether a value is of this kind."""

    def read(self, value: Any) -> Any:
        """The value as it is used. Raises :class:`DistillationError` where it does not fit."""
        if not self.fits(value):
            raise DistillationError(given=value, accepted=self.accepted)
        return value


@dataclass(frozen=True)
class Number(Kind):
    """A finite number (a whole one), within bounds that are part of it (``least``, ``most``) or not (``above``, ``below``).

    It is one that tensors hold: a whole number in 64 bits, any other in float32, where 1e39 is infinite and 1e-46 is 0.
    """
    above: Optional[float] = None
    least: Optional[float] = None
    below: Optional[float] = None
    most: Optional[float] = None
    whole: bool = False

    @property
    def accepted(self) -> str:
        bounds = [f'{sign} {bound if isinstance(bound, int) else format(bound, "g")}' for sign, bound in (
            ('>', self.above), ('>=', self.least), ('<', self.below), ('<=', self.most)) if bound is not None]
        return ' '.join([f'a {"whole " if self.whole else ""}number', ' and '.join(bounds)]).strip()

    def fits(self, value: Any) -> bool:
        return self._is_number(value) and self._is_held(value) and ((self.above is None or value > self.above)
                                                                    and (self.least is None or value >= self.least)
                                                                    and (self.below is None or value < self.below)
                                                                    and (self.most is None or value <= self.most))

    def read(self, value: Any) -> Any:
        if self._is_number(value) and not self._is_held(value):
            held = f'{-INT64_MOST - 1} to {INT64_MOST}' if self.whole else f'{FLOAT32_LEAST:.3g} to {FLOAT32_MOST:.3g}, or 0'
            raise DistillationError(f'is out of the range of {"int64" if self.whole else "float32"} ({held})', given=value,
                                    accepted=self.accepted)
        read = super().read(value)
        # Numbers of numpy and of Python's fractions are not what configs and checkpoints are made of.
        return int(read) if self.whole else read if isinstance(read, (int, float)) else float(read)

    def _is_number(self, value: Any) -> bool:
        kind = Integral if self.whole else Real
        return isinstance(value, kind) and not isinstance(value, bool) and (isinstance(value, int) or math.isfinite(value))

    def _is_held(self, value: Any) -> bool:
        if self.whole:
            return bool(-INT64_MOST - 1 <= value <= INT64_MOST)
        return bool(value == 0 or FLOAT32_LEAST <= abs(value) <= FLOAT32_MOST)


SEED = Number(least=0, below=2 ** 32, whole=True)
"""The kind of a seed: what Python's, numpy's and torch's generators all take, and the same in every process (a text would
be hashed)."""


@dataclass(frozen=True)
class Flag(Kind):
    """True or False, not what Python would take for them: ``'False'`` would count as true."""
    accepted: ClassVar[str] = 'True or False'

    def fits(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text(Kind):
    """A text that is not empty.

    Args:
        what: what it says, e.g. ``'the address of a tap'``.
    """
    what: str = 'a text'

    @property
    def accepted(self) -> str:
        return self.what

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and bool(value)


@dataclass(frozen=True)
class Choice(Kind):
    """One of some names.

    Args:
        names: the names, or a function that returns them, where more may be registered later.
        more: what else is accepted beside the names, in words, for messages.
    """
    names: Union[Tuple[str, ...], Callable[[], Iterable[str]]]
    more: str = ''

    def known(self) -> List[str]:
        """The names at present."""
        return list(self.names() if callable(self.names) else self.names)

    @property
    def accepted(self) -> str:
        return ', '.join(map(repr, self.known())) + (f'; {self.more}' if self.more else '')

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.known()

    def read(self, value: Any) -> Any:
        if not self.fits(value):
            raise unknown_name('', value, self.known(), self.more and f'Or {self.more}.')
        return value


@dataclass(frozen=True)
class Either(Kind):
    """Of one kind, or one of some constants, such as ``'auto'`` or None."""
    kind: Kind
    constants: Tuple[Any, ...]

    @property
    def accepted(self) -> str:
        return self._or_constants(self.kind.accepted)

    def _or_constants(self, accepted: str) -> str:
        return f'{accepted}, or {", ".join(map(repr, self.constants))}'

    def is_constant(self, value: Any) -> bool:
        """Whether it is one of the constants (1 is not True)."""
        return any(value is constant or (isinstance(value, str) and value == constant) for constant in self.constants)

    def fits(self, value: Any) -> bool:
        return self.is_constant(value) or self.kind.fits(value)

    def read(self, value: Any) -> Any:
        if self.is_constant(value):
            return value
        try:
            return self.kind.read(value)
        except DistillationError as error:
            if error.path:
                raise  # a part of it is named
            near = nearest_names(value, [*error.nearest, *map(str, self.constants)])
            raise DistillationError(error.problem, given=value, accepted=self._or_constants(error.accepted), nearest=near,
                                    hint=error.hint) from None


@dataclass(frozen=True)
class ListOf(Kind):
    """A list (or tuple) of one kind, of some length.

    Args:
        kind: what each item is.
        what: the items in words, in the plural.
        length: how many; at least one if None.
        different: whether no item may be there twice.
    """
    kind: Kind
    what: str
    length: Optional[int] = None
    different: bool = False

    @property
    def accepted(self) -> str:
        return f'a list of {f"{self.length} " if self.length else ""}{"different " if self.different else ""}{self.what}'

    def fits(self, value: Any) -> bool:
        return (isinstance(value, (list, tuple)) and len(value) > 0 and (self.length is None or len(value) == self.length)
                and all(map(self.kind.fits, value)) and not (self.different and _has_twins(value)))

    def read(self, value: Any) -> List[Any]:
        if not self.fits(value):
            raise DistillationError(given=value, accepted=self.accepted)
        return [self.kind.read(item) for item in value]


def _has_twins(items: Sequence[Any]) -> bool:
    return any(item in items[:number] for number, item in enumerate(items))


@dataclass(frozen=True)
class Block(Kind):
    """A dict with text keys: a config of something else, read by whoever builds it.

    Args:
        what: in words, what the dict configures, e.g. ``"a loader's config"``.
        needs: keys that must be there, with a text.
    """
    what: str = 'a dict'
    needs: Tuple[str, ...] = ()

    @property
    def accepted(self) -> str:
        return self.what

    def fits(self, value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value) and all(
            isinstance(value.get(key), str) and value[key] for key in self.needs)


@dataclass(frozen=True)
class Typed(Block):
    """A config with a type: a name of a registry, or the class itself."""
    what: str = 'a dict with a type'

    def fits(self, value: Any) -> bool:
        kind = value.get('type') if isinstance(value, dict) else None
        return super().fits(value) and (callable(kind) or (isinstance(kind, str) and bool(kind)))


def read_known(given: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Dict[str, Any]:
    """The values of those keys that have a kind, as they are used.

    Args:
        given: values by key.
        kinds: by key, what its value has to be; other keys are not looked at.

    Raises:
        DistillationError: for a value that does not fit; its path begins with the key.
    """
    read = {}
    for name, kind in kinds.items():
        if name in given:
            with under(name):
                read[name] = kind.read(given[name])
    return read


def option(kind: Kind, default: Any = dataclasses.MISSING, doc: str = '',
           only: Union[Beside, Sequence[Beside]] = ()) -> Any:
    """A field of :class:`Options`; one without a default has to be given.

    Args:
        kind: what it accepts.
        default: its value where it is not given.
        doc: what it means.
        only: beside which values of other options it has a meaning, ``dict(mode=('constant',))``; or a list of such
            dicts, of which one has to hold. Always, where it is empty.
    """
    metadata = dict(kind=kind, doc=doc, default=default, only=(only,) if isinstance(only, Mapping) else tuple(only))
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a class. A sub-class adds fields with :func:`option`, and :meth:`check` for what concerns several."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """By a key of former versions, or one that belongs elsewhere, what to write instead."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """By a key that another package has in such a place, the name of the option here, or what to write instead."""
    refused: ClassVar[Mapping[str, str]] = {}
    """By an inherited option that has no use here, why, and what to write instead."""
    also_only: ClassVar[Mapping[str, Beside]] = {}
    """By an inherited option, beside which values of other options it has a meaning here; see :func:`option`."""

    @classmethod
    def read(cls: Type[Own], given: Mapping[str, Any]) -> Own:
        """Options from a dict of values.

        Raises:
            DistillationError: for an unknown key, one that is missing, a value that does not fit, or one that has no
                meaning beside the others; its path begins with the key.
        """
        fields = {field.name: field for field in dataclasses.fields(cls) if field.name not in cls.refused}
        check_known_keys('', given, fields, cls._hints(fields))
        for name, field in fields.items():
            if name not in given and field.metadata['default'] is dataclasses.MISSING:
                raise DistillationError('is missing', path=name, accepted=field.metadata['kind'].accepted)
        values: Dict[str, Any] = {}
        for name, value in given.items():
            try:
                values[name] = fields[name].metadata['kind'].read(value)
            except DistillationError as error:
                raise error.at(name) from None
        read = cls(**values)
        for name, value in given.items():
            # None, where it is the default, is what a config writes that takes an inherited value back.
            if value is not None or fields[name].metadata['default'] is not None:
                read._check_meaning(name, value)
        read.check(list(given))
        return read

    @classmethod
    def _hints(cls, known: Mapping[str, Any]) -> Dict[str, str]:
        called = {key: f'It is {name} here.' for key, name in cls.elsewhere.items() if name in known}
        said = {key: text for key, text in cls.elsewhere.items() if not text.isidentifier()}
        return {**said, **called, **cls.renamed, **cls.refused}

    def _check_meaning(self, name: str, value: Any) -> None:
        """Raises :class:`DistillationError` where an option would be ignored beside the values of the others."""
        for alternatives in self._meaningful(name):
            if any(all(_is_one_of(getattr(self, other), values) for other, values in beside.items())
                   for beside in alternatives):
                continue
            others = dict.fromkeys(other for beside in alternatives for other, values in beside.items()
                                   if not _is_one_of(getattr(self, other), values))
            present = ' and '.join(f'{other}={getattr(self, other)!r}' for other in others)
            raise DistillationError(f'has no meaning with {present}', path=name, given=value,
                                    accepted=f'nothing, or {_in_words(alternatives)} beside it',
                                    hint='Leave it out; a config that inherits it writes its dict anew, with _delete_=True.')

    @classmethod
    def _meaningful(cls, name: str) -> List[Sequence[Beside]]:
        """All that has to hold for an option to have a meaning: of each list of alternatives one."""
        own = next(field.metadata['only'] for field in dataclasses.fields(cls) if field.name == name)
        return [alternatives for alternatives in (own, [cls.also_only[name]] if name in cls.also_only else ())
                if alternatives]

    @classmethod
    def without_meaning(cls, **values: Any) -> List[str]:
        """Names of the options that would be refused beside these values of others, whatever the rest.

        Args:
            values: values of options by name, e.g. ``mode='search'``.
        """
        return [field.name for field in dataclasses.fields(cls)
                if any(all(_contradicts(beside, values) for beside in alternatives)
                       for alternatives in cls._meaningful(field.name))]

    @classmethod
    def meaning_of(cls, name: str) -> str:
        """Beside what an option has a meaning, in words; '' where that is always so."""
        return ', and '.join(map(_in_words, cls._meaningful(name)))

    def check(self, given: Sequence[str]) -> None:
        """Raises :class:`DistillationError` where options that fit alone do not fit together.

        Args:
            given: names of the options that were given; the others have their defaults.
        """


def _is_one_of(value: Any, values: Sequence[Any]) -> bool:
    """Whether a value is one of others; 1 is not True."""
    return any(type(value) is type(other) and value == other for other in values)


def _contradicts(beside: Beside, values: Mapping[str, Any]) -> bool:
    return any(name in values and not _is_one_of(values[name], accepted) for name, accepted in beside.items())


def _in_words(alternatives: Sequence[Beside]) -> str:
    return ', or '.join(', and '.join(f'{name}={" or ".join(map(repr, values))}' for name, values in beside.items())
                        for beside in alternatives)


def reference_table(options: Type[Options], leave_out: Sequence[str] = ()) -> str:
    """The options of a class as a table in markdown: key, accepted values, default, meaning."""
    rows = ['| key | accepted | default | meaning |', '|---|---|---|---|']
    left_out = {*leave_out, *options.refused}
    for field in (field for field in dataclasses.fields(options) if field.name not in left_out):
        default = field.metadata['default']
        meaning = options.meaning_of(field.name)
        doc = f'{field.metadata["doc"]}. Only with `{meaning}`' if meaning else field.metadata['doc']
        cells = (f'`{field.name}`', field.metadata['kind'].accepted,
                 '(required)' if default is dataclasses.MISSING else f'`{default!r}`', doc)
        rows.append('| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |')
    return '\n'.join(rows)
