"""The members of a process that are losses of the model's other distillers: made by those, watched here."""
from contextlib import contextmanager
from dataclasses import fields
from typing import Dict, Iterator, List, Mapping, Optional, Sequence

from torch import Tensor

from ..distiller import Batch, Distiller, Features, IdleInPart, SeparateLosses, WeighsOthers, WrapsForward
from ..distiller.strength import StrengthOptions
from ..taps.shapes import widened
from ..utils.errors import DistillationError, under, unknown_name
from .member_gradients import MemberGradients
from .members import OtherLoss

KEPT = ('loss_weight', 'log_gradients')
"""Of the options that every distiller has, those that a member keeps; the others are the process's."""


class OtherLosses:
    """Losses of other distillers, each by its number among the members of a process.

    Args:
        members: by number, which losses.

    Attributes:
        distillers: by name, the distillers; once they have been met.
    """

    def __init__(self, members: Mapping[int, OtherLoss]) -> None:
        self.members = dict(members)
        self.distillers: Dict[str, Distiller] = {}

    @property
    def names(self) -> List[str]:
        """The distillers' names, each once."""
        return list(dict.fromkeys(member.distiller for member in self.members.values()))

    def of(self, name: str) -> Dict[int, Optional[str]]:
        """By number, the losses of a distiller that are members; None is their sum."""
        return {index: member.loss for index, member in self.members.items() if member.distiller == name}

    def meet(self, distillers: Mapping[str, Distiller], path: str) -> None:
        """Gets to know the distillers.

        Args:
            distillers: by name, the other distillers of the model.
            path: where the process stands in the config.

        Raises:
            DistillationError: for a distiller that cannot be a member, a loss that it has not, or options that are the
                process's.
        """
        for check in (self._check_kind, self._check_complete):  # one after the other: what is misspelt lacks, too
            for number, member in enumerate(self.members.values()):
                with under(f'{path}.members[{number}]'):
                    check(distillers[member.distiller], member)
        self.distillers = {name: distillers[name] for name in self.names}
        for distiller in self.distillers.values():
            _check_options(distiller, path)

    def _check_kind(self, distiller: Distiller, member: OtherLoss) -> None:
        if isinstance(distiller, WeighsOthers):
            raise DistillationError('is a process itself', given=str(member), accepted='another distiller; its levels can '
                                    'be those of this one')
        if isinstance(distiller, WrapsForward) and distiller.wraps:
            raise DistillationError("changes the student's forward (mode='search')", given=str(member),
                                    accepted="mode='distill'")
        if member.loss is None:
            return
        if not isinstance(distiller, SeparateLosses):
            raise DistillationError(f'is part of {member.distiller}, whose losses depend on each other', given=str(member),
                                    accepted=repr(member.distiller))
        known = [f'{member.distiller}.{name}' for name in distiller.loss_taps()]
        if str(member) not in known:
            raise unknown_name('', str(member), known, problem=f'is no loss of {member.distiller}')

    def _check_complete(self, distiller: Distiller, member: OtherLoss) -> None:
        if member.loss is None:
            return
        known = [f'{member.distiller}.{name}' for name in _separate(distiller).loss_taps()]
        listed = set(self.of(member.distiller).values())
        missing = [name for name in known if name.partition('.')[2] not in listed]
        if missing:
            raise DistillationError(f'is there without {", ".join(map(repr, missing))}', given=str(member),
                                    accepted='a distiller whole, or each of its losses',
                                    hint=f'Leave those out of the pairs of {member.distiller}, if they are not wanted.')

    def student_taps(self) -> List[str]:
        """The student's taps that all of them read."""
        return list(dict.fromkeys(tap for distiller in self.distillers.values() for tap in distiller.student_taps))

    def losses(self, name: str, student: Features, teacher: Features, batch: Batch,
               gradients: Optional[MemberGradients] = None, with_weights: bool = False) -> Dict[str, Tensor]:
        """The losses of a distiller, as it makes them, once each.

        Args:
            name: the distiller.
            student, teacher, batch: what it looks at.
            gradients: what watches this step, if it is watched.
            with_weights: whether the gradients of its own weights are watched, too.
        """
        distiller = self.distillers[name]
        if gradients is None:
            return distiller(student, teacher, batch)  # type: ignore[no-any-return]  # a module's call is not typed
        found: Dict[str, Tensor] = {}
        for index, loss in self.of(name).items():
            with _only(distiller, loss):
                seen = {tap: gradients.watch_input(index, tap, widened(student[tap]))
                        for tap in _student_taps(distiller, batch.iteration)}
                made = distiller({**student, **seen}, teacher, batch)
            gradients.watch_loss(index, made.values())
            if with_weights:
                gradients.watch_weights(index, distiller.parameters() if loss is None else
                                        _separate(distiller).loss_parameters(loss))
            found.update(made)
        return found

    def values(self, student: Features, teacher: Features, batch: Batch) -> Dict[int, Tensor]:
        """l_p by number: scalars, not weighted."""
        found: Dict[int, Tensor] = {}
        for name in self.names:
            losses = self.losses(name, student, teacher, batch)
            for index, loss in self.of(name).items():
                found[index] = summed(losses) if loss is None else losses[loss]
        return found

    def taps_of(self, index: int, iteration: int) -> Sequence[str]:
        """The student's taps that a member reads at an iteration.

        Args:
            index: its number.
            iteration: the global iteration.
        """
        member = self.members[index]
        distiller = self.distillers[member.distiller]
        return _student_taps(distiller, iteration) if member.loss is None else list(dict.fromkeys(
            _separate(distiller).loss_taps()[member.loss].student))


def summed(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of a distiller's losses."""
    first, *others = losses.values()
    return sum(others, first)


@contextmanager
def _only(distiller: Distiller, loss: Optional[str]) -> Iterator[None]:
    """Inside, a distiller makes one of its losses alone; all where it is None."""
    if loss is None:
        yield
        return
    separate = _separate(distiller)
    before = separate.left_out
    separate.left_out = frozenset(separate.loss_taps()) - {loss}
    try:
        yield
    finally:
        separate.left_out = before


def _separate(distiller: Distiller) -> SeparateLosses:
    assert isinstance(distiller, SeparateLosses), 'it was checked when they met'
    return distiller


def _student_taps(distiller: Distiller, iteration: int) -> Sequence[str]:
    taps = distiller.taps_at(iteration).student if isinstance(distiller, IdleInPart) else distiller.student_taps
    return list(dict.fromkeys(taps))


def _check_options(distiller: Distiller, process: str) -> None:
    """Raises :class:`DistillationError` for an option of a member that is the process's."""
    for field in fields(StrengthOptions):
        given, default = getattr(distiller.options, field.name), field.default
        if field.name not in KEPT and given != default:
            raise DistillationError(f'has no meaning in a member of {process}, which says when and how strongly it acts',
                                    path=f'{distiller.path}.{field.name}', given=given, accepted=repr(default))
    if distiller.options.loss_weight == 0:
        raise DistillationError(f'makes a member of {process} that would never act', path=f'{distiller.path}.loss_weight',
                                given=0, accepted='a number > 0')
