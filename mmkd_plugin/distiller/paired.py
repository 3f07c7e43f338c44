"""A distiller that compares pairs of taps, one loss for each."""
from dataclasses import dataclass
from typing import Any, Dict, List

from ..utils.options import option
from .base import Distiller
from .capabilities import SeparateLosses, TapNames
from .pairs import Pairs, ParsedPair, describe_pairs, pair_names


class PairedDistiller(Distiller):
    """Has an option ``pairs``, taps both sides of each, and names a loss after each.

    Attributes:
        loss_names: ``loss_<last part of the student's tap>`` of each pair.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Distiller.Options):
        """The options of a paired distiller."""
        pairs: List[ParsedPair] = option(Pairs(), doc='(student tap, teacher tap) of each comparison')

    options: Options

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.pairs = self.options.pairs
        self.student_taps = [pair.student for pair in self.pairs]
        self.teacher_taps = [pair.teacher for pair in self.pairs]
        self.loss_names = [f'loss_{name}' for name in pair_names(self.pairs)]

    def describe(self) -> str:
        return describe_pairs(self.pairs)


class SeparatePairs(PairedDistiller, SeparateLosses):
    """A paired distiller whose pairs have nothing to do with each other; :meth:`forward` passes over ``left_out``."""

    def loss_taps(self) -> Dict[str, TapNames]:
        return {name: TapNames([pair.student], pair.teacher_taps) for name, pair in zip(self.loss_names, self.pairs)}
