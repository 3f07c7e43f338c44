"""Training steps of a search: what is kept of one until it has been judged."""
from dataclasses import dataclass, field
from typing import Any, Callable, ContextManager, NamedTuple, Optional

from torch import Tensor

from ..distiller import KeptStep
from ..search import StepWatch
from .hypergradient import Named
from .member_gradients import MemberGradients

Autocast = Callable[[], ContextManager[Any]]


class Snapshot(NamedTuple):
    """theta_t: trained parameters and buffers by name, copied before the training step; and what watches that step."""
    point: Named
    watch: StepWatch


class TrainingStep(NamedTuple):
    """A training step that is judged: where it began, its forward, what its backward left, the context of its forward, and
    the importance that weighed its losses."""
    before: Snapshot
    kept: KeptStep
    caught: Optional[MemberGradients]
    autocast: Autocast
    importance: Tensor


@dataclass
class Waiting:
    """A training step that later batches judge: the sum of their gradients so far, and how many they are."""
    step: TrainingStep
    gradients: Named = field(default_factory=dict)
    judges: int = 0

    def add(self, gradients: Named) -> None:
        """Takes another batch's gradients into account."""
        before = self.gradients
        self.gradients = {name: before[name] + now for name, now in gradients.items() if name in before} if (
            self.judges) else gradients
        self.judges += 1
