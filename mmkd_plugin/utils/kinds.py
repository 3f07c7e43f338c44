"""Kinds of values that several options share."""
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Dict

from .errors import DistillationError
from .options import Block, Either, Flag, Kind, ListOf, Number, read_known

POOLED = ListOf(Number(least=1, most=1024, whole=True), 'whole numbers >= 1 and <= 1024', different=True)
"""The kind of the sides of pooled maps, in cells."""
TEMPERATURE = Number(above=1e-3, below=1e4)
"""The kind of a temperature: papers have 0.1 to 20. Scores that are divided by far less are infinite, by far more equal."""


class ReadKind(Kind):
    """A kind whose ``read`` says what fits, since it takes a value apart: a list of pairs, a config of its own."""

    def fits(self, value: Any) -> bool:
        try:
            self.read(value)
        except DistillationError:
            return False
        return True

    @abstractmethod
    def read(self, value: Any) -> Any:
        """The value as it is used. Raises :class:`DistillationError` where it does not fit."""


@dataclass(frozen=True)
class OptimizerConfig(Block):
    """The config of an optimiser; torch takes its numbers as they come, nan among them, and any text for True."""
    what: str = "a config, e.g. dict(type='Adam', lr=3e-3)"

    def read(self, value: Any) -> Any:
        read = super().read(value)
        if 'params' in read:
            raise DistillationError('says what is optimised, which is not to be chosen here', path='params',
                                    given=read['params'], accepted='no such key')
        return {**read, **read_known(read, OPTIMIZER_KINDS)}


OPTIMIZER_KINDS: Dict[str, Kind] = dict(
    dict.fromkeys(('lr', 'weight_decay', 'momentum'), Number(least=0, below=1e6)),
    **dict.fromkeys(('maximize', 'nesterov', 'amsgrad', 'centered', 'decoupled_weight_decay'), Flag()),
    **dict.fromkeys(('foreach', 'fused'), Either(Flag(), (None,))))
"""By key, what optimisers of torch take under it."""
