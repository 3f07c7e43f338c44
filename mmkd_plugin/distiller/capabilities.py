"""What a distiller can do beyond the four basic methods, each by a name: inherit from it beside ``Distiller``."""
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from torch import Tensor, nn

from ..losses.batch import Batch
from ..taps import FeatureSum, FeatureTaps, Replacements
from .gradients import GradientComparison
from .strength import StrengthOptions
from .surroundings import Surroundings

if TYPE_CHECKING:
    from .base import Distiller

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


class SeparateLosses(IdleInPart):
    """Its losses do not depend on each other: each may be left out alone, with the taps and parameters that only it needs.

    Attributes:
        left_out: the losses that the coming forwards leave out; set by whoever weighs them.
    """
    left_out: FrozenSet[str] = frozenset()

    @abstractmethod
    def loss_taps(self) -> Dict[str, TapNames]:
        """By name of the loss, the taps that it needs; known once the distiller has found its taps."""

    @abstractmethod
    def loss_parameters(self, name: str) -> Iterable[nn.Parameter]:
        """The parameters that one of its losses alone reaches."""

    def taps_at(self, iteration: int) -> TapNames:
        kept = [taps for name, taps in self.loss_taps().items() if name not in self.left_out]
        return TapNames([tap for taps in kept for tap in taps.student], [tap for taps in kept for tap in taps.teacher])

    def idle_parameters(self, iteration: int) -> Iterable[nn.Parameter]:
        return [parameter for name in self.loss_taps() if name in self.left_out for parameter in self.loss_parameters(name)]


@contextmanager
def nothing_left_out(distillers: 'Iterable[Distiller]') -> Iterator[None]:
    """Inside, distillers whose losses can be left out have all of them."""
    separate = [distiller for distiller in distillers if isinstance(distiller, SeparateLosses)]
    before = [distiller.left_out for distiller in separate]
    for distiller in separate:
        distiller.left_out = frozenset()
    try:
        yield
    finally:
        for distiller, left_out in zip(separate, before):
            distiller.left_out = left_out


class WeighsOthers(ABC):
    """It weighs the losses of other distillers of the model: they make them as ever, once, and it says their factor."""

    @property
    @abstractmethod
    def weighed(self) -> Sequence[str]:
        """The names of those distillers, each once; none where it weighs nothing but its own losses."""

    @abstractmethod
    def meet(self, distillers: 'Mapping[str, Distiller]') -> None:
        """Gets to know the other distillers of the model, by name, when all have found their taps.

        Raises:
            DistillationError: for one that cannot be weighed.
        """

    @abstractmethod
    def factors(self, name: str, iteration: int) -> Dict[Optional[str], float]:
        """The whole factor of each loss of a distiller, by name; None stands for the losses that are not named.

        A loss without a factor is left out. Without any the distiller does not act, and costs nothing.

        Args:
            name: the distiller.
            iteration: the global iteration.
        """

    @abstractmethod
    def losses_of(self, name: str, student: Dict[str, Tensor], teacher: Dict[str, Tensor],
                  batch: Batch) -> Dict[str, Tensor]:
        """The losses of a distiller that it weighs, made by that one, without a factor.

        Args:
            name: the distiller.
            student, teacher, batch: what it looks at.
        """


class StandsForSeveral(ABC):
    """It stands for several distillers, which take its place when training starts and the networks are known."""

    @abstractmethod
    def stands_for(self, surroundings: Surroundings, image: Tensor) -> Dict[str, Dict[str, Any]]:
        """Their configs by name; its own name is one of them.

        Args:
            surroundings: the networks, and what runs them.
            image: (1, C, H, W), to run them on.

        Raises:
            DistillationError: for networks that do not fit.
        """

    @abstractmethod
    def hooks(self, distillers: Dict[str, Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Configs of the hooks that they need; a run that has one of such a type keeps its own.

        Args:
            distillers: what :meth:`stands_for` returned.
        """


class ComparesLosses(ABC):
    """It wants the gradients of several losses compared with the task loss's, each at the taps it reads."""

    @abstractmethod
    def losses_to_compare(self) -> 'Dict[str, Tuple[Tensor, Sequence[str]]]':
        """By name, losses of the step at hand with the student's taps they read; nothing where none are to be compared."""

    @abstractmethod
    def take_comparisons(self, comparisons: Mapping[str, GradientComparison]) -> None:
        """What has come of it, by the same names."""

    @abstractmethod
    def unsettled(self) -> Sequence[str]:
        """Of these names those of which something was found that still moves."""


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
