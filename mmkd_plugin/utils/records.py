"""What may stand in a checkpoint: kinds of entries, in data, so that all is checked before anything is loaded.

A checkpoint is a file that may come from anywhere. The first entry that does not fit is named by its path, with its value
and what is accepted::

    Fields(dict(steps=Whole(), losses=Listing(Real()))).check(dict(steps=3, losses=[1.0, 'x']))  # losses[1]: 'x' ...
"""
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, Mapping, Optional, Tuple

import torch
from torch import Tensor

from .errors import DistillationError, check_known_keys, shown, under

DEEPEST, LARGEST = 40, 2 ** 1000


class Entry(ABC):
    """A kind of entry."""

    @property
    @abstractmethod
    def accepted(self) -> str:
        """What fits, in words."""

    @abstractmethod
    def check(self, value: Any) -> None:
        """Raises :class:`DistillationError` for the first thing that does not fit; its path starts from the value."""

    def _require(self, fits: bool, value: Any, problem: str = '') -> None:
        if not fits:
            raise DistillationError(problem, given=Shown(value), accepted=self.accepted)


class ChecksState(ABC):
    """A module that knows more of its state than types and shapes, which are checked anyway when a run is resumed."""

    @abstractmethod
    def state_entries(self) -> Dict[str, Entry]:
        """What the tensors of its state have to be, by their name in it; those that are not named may be anything finite."""


class Shown:
    """A value for a message: a tensor by what it is, not by its numbers."""

    def __init__(self, value: Any):
        self._text = _in_words(value)

    def __repr__(self) -> str:
        return self._text


def _in_words(value: Any) -> str:
    if isinstance(value, Tensor):
        numbers = '' if value.numel() != 1 or value.layout != torch.strided else f' ({value.flatten()[0].item()})'
        return f'a tensor of shape {tuple(value.shape)} and type {str(value.dtype).replace("torch.", "")}{numbers}'
    if isinstance(value, (dict, list, tuple)):
        return f'a {type(value).__name__} of {len(value)}'
    return 'a whole number without end' if isinstance(value, int) and abs(value) >= LARGEST else shown(value, 100)


@dataclass(frozen=True)
class Whole(Entry):
    """A whole number within bounds, which are part of it."""
    least: int = 0
    most: int = 2 ** 63 - 1

    @property
    def accepted(self) -> str:
        return f'a whole number >= {self.least}' + ('' if self.most == 2 ** 63 - 1 else f' and <= {self.most}')

    def check(self, value: Any) -> None:
        self._require(type(value) is int and self.least <= value <= self.most, value)


@dataclass(frozen=True)
class Real(Entry):
    """A finite number."""
    accepted: ClassVar[str] = 'a finite number'

    def check(self, value: Any) -> None:
        whole = type(value) is int and abs(value) < LARGEST
        self._require(whole or (isinstance(value, float) and math.isfinite(value)), value)


@dataclass(frozen=True)
class Truth(Entry):
    """True or False."""
    accepted: ClassVar[str] = 'True or False'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, bool), value)


@dataclass(frozen=True)
class Words(Entry):
    """A text; one of some, if they are given."""
    choices: Tuple[str, ...] = ()

    @property
    def accepted(self) -> str:
        return ', '.join(map(repr, self.choices)) or 'a text'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, str) and (not self.choices or value in self.choices), value)


@dataclass(frozen=True)
class Maybe(Entry):
    """Of one kind, or None."""
    entry: Entry

    @property
    def accepted(self) -> str:
        return f'{self.entry.accepted}, or None'

    def check(self, value: Any) -> None:
        if value is not None:
            self.entry.check(value)


@dataclass(frozen=True)
class Array(Entry):
    """A tensor of a type and a shape, finite, within bounds.

    Args:
        dtype: its type; any if None.
        shape: its shape; any if None.
        finite: whether infinity is refused; NaN always is.
        least: the smallest number it may hold.
        below: what all its numbers have to be smaller than.
    """
    dtype: Optional[torch.dtype] = None
    shape: Optional[Tuple[int, ...]] = None
    finite: bool = True
    least: Optional[int] = None
    below: Optional[int] = None

    @property
    def accepted(self) -> str:
        kind = f' of type {str(self.dtype).replace("torch.", "")}' if self.dtype is not None else ''
        shape = f' of shape {self.shape}' if self.shape is not None else ''
        bounds = ' and '.join(f'{sign} {bound}' for sign, bound in (('>=', self.least), ('<', self.below))
                              if bound is not None)
        return f'a{" finite" if self.finite else ""} tensor{shape}{kind}{f", its numbers {bounds}" if bounds else ""}'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized, value)
        self._require(self.dtype in (None, value.dtype) and self.shape in (None, tuple(value.shape)), value)
        expanded = any(step == 0 and side > 1 for step, side in zip(value.stride(), value.shape))
        self._require(not expanded, value, 'has numbers that share a place in memory')
        if value.is_floating_point() or value.is_complex():
            self._require(value.element_size() > 1, value)  # torch does not say of numbers of 8 bits whether they are finite
            self._require(not bool(value.isnan().any()), value, 'holds NaN')
            self._require(not self.finite or bool(value.isfinite().all()), value, 'holds infinity')
        if value.numel() and (self.least is not None or self.below is not None):
            low, high = value.min().item(), value.max().item()
            self._require((self.least is None or low >= self.least) and (self.below is None or high < self.below), value,
                          f'holds numbers from {low} to {high}')


@dataclass(frozen=True)
class Listing(Entry):
    """A list of one kind.

    Args:
        entry: what each item is.
        length: how many there are; any number if None.
    """
    entry: Entry
    length: Optional[int] = None

    @property
    def accepted(self) -> str:
        return f'a list{"" if self.length is None else f" of {self.length}"}, each {self.entry.accepted}'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, (list, tuple)) and self.length in (None, len(value)), value)
        for number, item in enumerate(value):
            with under(f'[{number}]'):
                self.entry.check(item)


class Row(Entry):
    """A list of a fixed length, each item of a kind of its own."""

    def __init__(self, *entries: Entry):
        self.entries = entries

    @property
    def accepted(self) -> str:
        return f'a list of {len(self.entries)}: {"; ".join(entry.accepted for entry in self.entries)}'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, (list, tuple)) and len(value) == len(self.entries), value)
        for number, (entry, item) in enumerate(zip(self.entries, value)):
            with under(f'[{number}]'):
                entry.check(item)


@dataclass(frozen=True)
class Named(Entry):
    """A dict of one kind, by names.

    Args:
        entry: what each value is.
        names: the kind of the keys.
    """
    entry: Entry
    names: Entry = Words()

    @property
    def accepted(self) -> str:
        return f'a dict, each value {self.entry.accepted}'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, dict), value)
        for name, item in value.items():
            self.names.check(name)
            with under(str(name)):
                self.entry.check(item)


@dataclass(frozen=True)
class Fields(Entry):
    """A dict with certain keys and no others.

    Args:
        entries: what stands under each key.
        optional: the keys that may be missing.
    """
    entries: Mapping[str, Entry]
    optional: Iterable[str] = ()

    @property
    def accepted(self) -> str:
        return f'a dict with {", ".join(self.entries)}'

    def check(self, value: Any) -> None:
        self._require(isinstance(value, dict), value)
        check_known_keys('', value, self.entries)
        for name, entry in self.entries.items():
            if name in value:
                with under(name):
                    entry.check(value[name])
            elif name not in self.optional:
                raise DistillationError('is missing', path=name, accepted=entry.accepted)


class Anything(Entry):
    """What is for others to check."""
    accepted = 'anything'

    def check(self, value: Any) -> None:
        pass


@dataclass(frozen=True)
class Plain(Entry):
    """Whatever a checkpoint may hold: tensors, numbers, text, None, lists and dicts of them."""
    depth: int = 0
    accepted: ClassVar[str] = 'tensors, numbers, text, None, lists and dicts of them'

    def check(self, value: Any) -> None:
        self._require(self.depth < DEEPEST, value, 'is nested too deeply')
        inner = Plain(self.depth + 1)
        if isinstance(value, (list, tuple)):
            Listing(inner).check(value)
        elif isinstance(value, dict):
            for name, item in value.items():
                self._require(isinstance(name, (str, int)), name, 'is no key')
                with under(str(name)):
                    inner.check(item)
        else:
            whole = isinstance(value, int) and abs(value) < LARGEST
            self._require(value is None or whole or isinstance(value, (Tensor, float, str)), value)


def like(present: Tensor) -> Array:
    """The entry for a tensor that takes the place of another: its type and shape, finite if that is, whole numbers >= 0."""
    floating = present.is_floating_point()
    finite = not floating or bool(present.isfinite().all())
    return Array(present.dtype, tuple(present.shape), finite, None if floating or present.dtype == torch.bool else 0)
