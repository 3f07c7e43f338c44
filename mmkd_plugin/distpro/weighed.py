"""What a process does with its members, whatever they are: weighs them, and watches their gradients in a search."""
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..distiller import (
    Batch,
    ComparesLosses,
    Distiller,
    Features,
    GradientComparison,
    KeepsStep,
    SeesTaskLoss,
    WeighsOthers,
)
from ..utils.errors import under
from .forward_tape import ForwardTape
from .importance import Importance
from .member_gradients import MemberGradients
from .members import Member, OtherLoss, name_members
from .others import OtherLosses, summed
from .pathways import Pathway
from .scales import MemberScales

if TYPE_CHECKING:
    from .search import ProcessSearch


class WeighsMembers(Distiller, KeepsStep, SeesTaskLoss, WeighsOthers, ComparesLosses):
    """A distiller whose losses, and those of others, have an importance that changes over training.

    Attributes:
        members: its pathways, and then the losses of other distillers.
        member_names: a short name for each, for logs.
        pathways: those of the members that are its own.
        others: those that are not.
        importance: from an iteration to the weights of the members.
        scales: what finds the members' scales; None where they are known.
        total: what all weigh together while they are equally important; None: what the normalisation gives.
        search: in a search, what moves the importance; set by its hook.
        keeps_gradients: whether the gradients of the members' losses are kept in the coming step; set by the search.
        keeps_weight_gradients: whether those at the weights of transforms and adapters are, too.
    """
    importance: Importance

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.search: Optional[ProcessSearch] = None
        self.keeps_gradients = self.keeps_weight_gradients = False
        self._gradients: Optional[MemberGradients] = None
        self._tape: Optional[ForwardTape] = None
        self.scales: Optional[MemberScales] = None
        self._fixed_scales: Optional[List[float]] = None
        self.total: Optional[float] = None
        self._total = 1.0
        self._set_members([], [])

    def _set_members(self, pathways: Sequence[Pathway], others: Sequence[OtherLoss]) -> None:
        self.pathways = list(pathways)
        self.members: List[Member] = [*pathways, *others]
        self.member_names = name_members(self.members)
        self.others = OtherLosses(dict(enumerate(others, len(self.pathways))))

    def scale_at(self, iteration: int) -> float:
        """The factor of ``sum_p w_p c_p l_p`` in the training loss; c are the :attr:`constants`."""
        return self.strength.weight_at(iteration) * self.strength.scale * self._total

    @property
    def constants(self) -> List[float]:
        """The factor c of each member's loss beside its weight: its scale, and the ``loss_weight`` of its distiller."""
        own = [self.others.distillers[member.distiller].options.loss_weight if isinstance(member, OtherLoss) else 1.0
               for member in self.members]
        scales = self.member_scales()
        return own if scales is None else [weight * scale for weight, scale in zip(own, scales)]

    def member_scales(self) -> Optional[List[float]]:
        """The scale of each member, found or given; None where all are 1."""
        return self._fixed_scales if self.scales is None else self.scales.values()

    def losses_to_compare(self) -> Dict[str, Tuple[Tensor, Sequence[str]]]:
        return {} if self.scales is None else self.scales.take_losses()

    def take_comparisons(self, comparisons: Mapping[str, GradientComparison]) -> None:
        if self.scales is not None:
            with under('scales'):
                self.scales.observe(comparisons, self.path)

    @property
    def weighed(self) -> Sequence[str]:
        return self.others.names

    def meet(self, distillers: Mapping[str, Distiller]) -> None:
        self.others.meet(distillers, self.path)

    def factors(self, name: str, iteration: int) -> Dict[Optional[str], float]:
        if not self.strength.weight_at(iteration):
            return {}
        total, constants, weights = self.scale_at(iteration), self.constants, self.importance.weights(iteration)
        return {loss: total * constants[index] * weights[index]
                for index, loss in self.others.of(name).items() if index in weights}

    def losses_of(self, name: str, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        losses = self.others.losses(name, student, teacher, batch, self._watch(student), self.keeps_weight_gradients)
        if self.scales is not None and not self.scales.finished:
            for index, loss in self.others.of(name).items():
                if loss is None or loss in losses:
                    self.scales.note(index, summed(losses) if loss is None else losses[loss],
                                     self.others.taps_of(index, batch.iteration))
        return losses

    @property
    def read_taps(self) -> List[str]:
        """The student's taps that a pathway or another member reads."""
        return list(dict.fromkeys([*self.student_taps, *self.others.student_taps()]))

    def watching(self, complete: Callable[[], bool]) -> ContextManager[Any]:
        self._gradients = None
        self._tape = ForwardTape(complete) if self.keeps_gradients else None
        return self._tape or nullcontext()

    def _watch(self, student: Features) -> Optional[MemberGradients]:
        """What watches this step, made by whichever member comes first; None where it is not watched."""
        if not self.keeps_gradients or not torch.is_grad_enabled():
            return None
        if self._gradients is None:
            tape, self._tape = self._tape, None
            self._gradients = MemberGradients([student[tap] for tap in self.read_taps], tape)
        return self._gradients

    def take_gradients(self) -> Optional[MemberGradients]:
        """Those of the last training step, which are no longer held here; ``keeps_gradients`` was set before it."""
        gradients, self._gradients = self._gradients, None
        return gradients
