"""The base of every distiller: which taps it needs, how strong it is at an iteration, and its losses."""
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from torch import Tensor, nn

from ..losses.batch import Batch
from ..taps import TapInfo
from ..utils.errors import DistillationError
from .strength import Strength, StrengthOptions
from .surroundings import Surroundings

Features = Dict[str, Tensor]
"""Features by tap address."""


class Distiller(nn.Module):
    """Maps tapped features of student and teacher to named losses.

    A sub-class has up to four methods: :meth:`find_taps` says which features it needs, :meth:`prepare` makes what depends
    on their shapes, :meth:`forward` returns the losses, :meth:`describe` says in a line what it does. Its options are the
    fields of its ``Options``. Its parameters (adapters) are trained by the run's optimiser and its ``state_dict`` is kept
    under ``mmkd`` in the checkpoint. What needs more takes a capability of :mod:`~mmkd_plugin.distiller.capabilities`.

    Args:
        options: by name; see ``Options`` of the class, and :class:`~mmkd_plugin.distiller.strength.StrengthOptions` for the
            options that every distiller has.

    Attributes:
        options: as read.
        strength: its weight, schedule and scale.
        name: what the config calls the distiller; set by whoever builds it.
        student_taps, teacher_taps: addresses of the features it needs.

    Raises:
        DistillationError: for options that do not fit.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(StrengthOptions):
        """The options every distiller has."""

    options: Options

    def __init__(self, **options: Any):
        super().__init__()
        self.options = self.Options.read(options)
        self.strength = Strength(self.options)
        self.name = ''
        self.student_taps: List[str] = []
        self.teacher_taps: List[str] = []

    @property
    def path(self) -> str:
        """Where it stands in a config, for logs."""
        return f'model.distillers.{self.name}'

    def find_taps(self, surroundings: Surroundings) -> None:
        """Sets ``student_taps`` and ``teacher_taps``, where the constructor could not. Called first when it is attached."""

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        """Makes what depends on shapes. Called once, after the dry run and before the optimiser is built.

        Args:
            student, teacher: what is known of every tap, by address.
        """

    def describe(self) -> str:
        """One line for the log, which also says what has to be the same in a run that is resumed."""
        return f'{type(self).__name__}, student {", ".join(self.student_taps)}; teacher {", ".join(self.teacher_taps)}'

    def weight_at(self, iteration: int) -> float:
        """The factor of its losses at a global iteration; at 0 it does not act, and costs nothing."""
        return self.strength.weight_at(iteration)

    def check_run(self, iterations: int) -> None:
        """Looks at a run before it begins.

        Args:
            iterations: its length.

        Raises:
            DistillationError: if the distiller would never act in it, or never with its full weight; at ``loss_weight=0``
                that is meant.
        """
        if self.options.loss_weight == 0:
            return
        if self.options.begin >= iterations:
            raise DistillationError(f'is beyond the end of the run, which has {iterations} iterations: it would never act',
                                    path='begin', given=self.options.begin, accepted=f'a whole number < {iterations}')
        end = self.options.end
        self.options.check_every(iterations if end is None else min(end, iterations))
        self.options.check_warmup(iterations)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        """Losses by name, each containing ``loss``, without the weight.

        Args:
            student, teacher: features by address, (B, C, H, W) or (B, C); autocast is off.
            batch: images, ground truth and iteration.
        """
        raise NotImplementedError
