"""The kinds of the options that only DistPro has."""
from dataclasses import dataclass
from typing import Any

from ..distiller import Pairs
from ..utils.errors import DistillationError
from ..utils.options import Block, Choice, Kind
from .pathways import CONNECTIONS


@dataclass(frozen=True)
class Connections(Kind):
    """Which levels are connected: a rule, or a list of pairs."""
    accepted = f'{", ".join(map(repr, CONNECTIONS))}, or a list of (student tap, teacher tap)'

    def fits(self, value: Any) -> bool:
        return self._kind(value).fits(value)

    def read(self, value: Any) -> Any:
        return self._kind(value).read(value)

    @staticmethod
    def _kind(value: Any) -> Kind:
        return Choice(CONNECTIONS, 'a list of (student tap, teacher tap)') if isinstance(value, str) else Pairs()


@dataclass(frozen=True)
class PathwayMap(Block):
    """By side, new names by old ones."""

    def read(self, value: Any) -> Any:
        for side, names in super().read(value).items():
            if not (isinstance(names, dict) and all(isinstance(name, str) for name in (*names, *names.values()))):
                raise DistillationError(path=side, given=names, accepted='a dict {old: new}')
        return value


@dataclass(frozen=True)
class MemberNames(Kind):
    """Names of other distillers, or of one of their losses."""
    accepted = ("a list of different names of the model's other distillers, 'mgd', or of one of their losses, "
                "'mgd.loss_layer4'")

    def fits(self, value: Any) -> bool:
        return (isinstance(value, (list, tuple)) and len(value) > 0 and len(set(map(str, value))) == len(value)
                and all(isinstance(name, str) and name.partition('.')[0].isidentifier()
                        and (name.isidentifier() or bool(name.partition('.')[2])) for name in value))

    def read(self, value: Any) -> Any:
        return list(super().read(value))
