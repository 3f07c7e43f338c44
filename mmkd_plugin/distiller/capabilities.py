"""What a distiller can do beyond the four basic methods, each by a name: inherit from it beside ``Distiller``."""
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from torch import Tensor, nn

from ..losses.batch import Batch
from ..taps import FeatureSum, FeatureTaps, Replacements
from ..utils.records import Entry
from .strength import StrengthOptions

Losses = Dict[str, Any]
"""Losses by name, as an mm model returns them: tensors or lists of tensors, and entries that are no losses."""


class TapNames(NamedTuple):
    """Tap addresses of the two sides."""
    student: Sequence[str]
    teacher: Sequence[str]


class IdleInPart(ABC):
    """In some iterations it needs fewer taps, and some of its parameters get no gradient."""

    @abstractmethod
    def taps_at(self, iteration: int) -> TapNames:
        """The taps it needs at a global iteration at which it acts."""

    def idle_parameters(self, iteration: int) -> Iterable[nn.Parameter]:
        """Parameters that get no gradient at an iteration at which it acts; DDP has to be told."""
        return ()


class ChecksState(ABC):
    """It knows more of its state than types and shapes, which are checked anyway when a run is resumed."""

    @abstractmethod
    def state_entries(self) -> Dict[str, Entry]:
        """What the tensors of its state have to be, by their name in it; those that are not named may be anything finite."""


class BringsHook(ABC):
    """It needs a hook beside it. Where the config has none that serves it, one is added when training starts.

    Attributes:
        options: the distiller's; at ``loss_weight=0`` no hook is added.
    """
    options: StrengthOptions

    @abstractmethod
    def hook(self) -> Dict[str, Any]:
        """The config of the hook. Its class has a method ``serves(name)``: whether it is for the distiller of that name."""


class SumsTeacherFeatures(ABC):
    """It needs weighted sums of teacher features, made while the teacher runs, so that none of the features is kept."""

    @abstractmethod
    def teacher_sums(self) -> List[FeatureSum]:
        """The sums this iteration needs."""


@dataclass(frozen=True)
class KeptStep:
    """A training forward, kept for further passes over the same batch.

    Attributes:
        batch: as the student's preprocessor made it.
        teacher: the teacher's features by address.
        rng: states of the random generators at its start, for the same dropout masks.
    """
    batch: Batch
    teacher: Dict[str, Tensor]
    rng: Dict[str, Any]


class KeepsStep:
    """It can keep the training forward at hand, for a search that goes over the same batch again.

    Attributes:
        keeps_step: whether the coming forward is to be kept; searches set it.
    """
    keeps_step: bool = False
    _kept: Optional[KeptStep] = None

    def watching(self, complete: Callable[[], bool]) -> 'AbstractContextManager[Any]':
        """The context in which the student's part of a forward that is kept runs.

        Args:
            complete: whether all tapped features have come.
        """
        return nullcontext()

    def keep(self, step: KeptStep) -> None:
        """Called in the forward where ``keeps_step`` is set."""
        self._kept = step

    def take_step(self) -> KeptStep:
        """The kept forward, which is no longer held here afterwards; ``keeps_step`` was set before it."""
        kept, self._kept = self._kept, None
        if kept is None:
            raise RuntimeError('no forward has been kept: none was distilled since keeps_step was set')
        return kept


class SeesTaskLoss:
    """It can look at the student's own loss of a training forward, before the losses of the distillers are made.

    Attributes:
        see_task_loss: what is called in the coming forward with the sum of the student's own losses, a scalar whose graph is
            still needed; None where nobody looks. Searches set it.
    """
    see_task_loss: Optional[Callable[[Tensor], Any]] = None


@dataclass(frozen=True)
class Wrapped:
    """What a wrapped forward comes to.

    Attributes:
        task: the student's own losses.
        more: further losses, which are neither the student's own nor the distiller's.
        unreached: trainable parameters that no loss reaches; DDP has to be told.
    """
    task: Losses
    more: Losses = field(default_factory=dict)
    unreached: Sequence[nn.Parameter] = ()


class ForwardWrap(ABC):
    """What a distiller puts around the student's forward of one step."""

    @contextmanager
    @abstractmethod
    def around(self, taps: FeatureTaps) -> Iterator[Replacements]:
        """The context in which the forward runs; yields what the student goes on with in place of tapped features."""

    @abstractmethod
    def finish(self, student: nn.Module, task: Losses, ours: Dict[str, Tensor], again: Callable[[], Losses]) -> Wrapped:
        """What becomes of the losses.

        Args:
            student: the student.
            task: the student's own losses.
            ours: the distiller's losses.
            again: runs the student's forward on the same batch once more, not wrapped.
        """


class WrapsForward(ABC):
    """It changes the student's forward. The teacher runs first then, and the distiller is the only one of its model."""

    @property
    @abstractmethod
    def wraps(self) -> bool:
        """Whether it does, as configured."""

    @abstractmethod
    def wrap(self, teacher: Dict[str, Tensor], batch: Batch) -> ForwardWrap:
        """What is put around the coming forward.

        Args:
            teacher: the teacher's features by address, and its sums by name.
            batch: the batch of the coming forward.
        """
