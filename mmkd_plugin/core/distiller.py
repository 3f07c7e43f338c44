"""The base of every distiller: which taps it needs, how strong it is at an iteration, and its losses."""
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from .errors import DistillationError, check_number
from .gradients import GradientComparison, ScaleCalibration
from .recording import FeatureSum
from .rerouting import Rerouting
from .taps import TapInfo
from .teacher import Teacher


@dataclass(frozen=True)
class Batch:
    """What a loss may know about a batch besides features.

    Attributes:
        inputs: (B, C, H, W), the student's normalised images.
        data_samples: ground truth and meta of each image, as the student's preprocessor left them.
        iteration: global iteration, counted from 0 and across resumes.
    """
    inputs: Tensor
    data_samples: Any
    iteration: int

    @property
    def image_size(self) -> Tuple[int, int]:
        return tuple(self.inputs.shape[2:])


class TapNames(NamedTuple):
    """Tap addresses of the two sides."""
    student: Sequence[str]
    teacher: Sequence[str]


class Distiller(nn.Module):
    """Maps tapped features of student and teacher to named losses.

    A sub-class names its taps in ``student_taps`` and ``teacher_taps``, makes what depends on shapes in
    :meth:`prepare`, and returns its losses from :meth:`forward`. Its parameters (adapters) are trained by the run's
    optimiser and its ``state_dict`` is kept under ``mmkd`` in the checkpoint.

    What most distillers leave as it is: :meth:`find_taps` where the taps follow from the models, :meth:`taps_at` and
    :meth:`teacher_sums` where an iteration needs less than all features, :meth:`reroute` (with ``reroutes`` set) where the
    student is to go on from another feature.

    Args:
        loss_weight: factor of all its losses. At 0 the distiller costs nothing.
        begin: first iteration at which it acts.
        end: first iteration at which it no longer acts; None for never.
        warmup: iterations over which the weight rises linearly from 0, starting at ``begin``.
        loss_scale: a second factor. ``'auto'``: found in the first iterations so that with weight 1 the gradient at the
            student's taps is as strong as the task loss's, then frozen, logged, and kept in the checkpoint.
        calibration_iters: how many iterations ``'auto'`` takes; None: until the ratio has settled (200 to 2000). See
            :class:`~mmkd_plugin.core.gradients.ScaleCalibration`.
        log_gradients: every how many iterations the ratio of the gradients (distiller's, weighted, to task loss's) and
            their cosine are logged, together and per tap; 0 for never. An iteration with it costs a second and third
            backward pass down to the taps.

    Raises:
        DistillationError: for a negative weight, a schedule that never acts, or another scale.
    """

    def __init__(self, loss_weight: float = 1.0, begin: int = 0, end: Optional[int] = None, warmup: int = 0,
                 loss_scale: Union[float, str] = 1.0, calibration_iters: Optional[int] = None, log_gradients: int = 0):
        super().__init__()
        check_number('loss_weight', loss_weight, least=0)
        check_number('begin', begin, least=0, whole=True)
        check_number('warmup', warmup, least=0, whole=True)
        if end is not None:
            check_number('end', end, above=begin, whole=True)
        check_number('log_gradients', log_gradients, least=0, whole=True)
        calibration = ScaleCalibration(calibration_iters)
        self.calibration = calibration if loss_scale == 'auto' else None
        if self.calibration is None:
            self.fixed_scale = _checked_scale(loss_scale)
        elif end is not None and end - begin < len(calibration.log_scales):
            raise DistillationError(f"calibration_iters: 'auto' takes {len(calibration.log_scales)} iterations at least, "
                                    f'but the distiller acts in {end - begin} (begin {begin}, end {end}). Accepted: no '
                                    'more, or a number for loss_scale.')
        self.loss_weight, self.begin, self.end, self.warmup = loss_weight, begin, end, warmup
        self.log_gradients = log_gradients
        self.student_taps: List[str] = []
        self.teacher_taps: List[str] = []
        self.reroutes = False

    def find_taps(self, student: nn.Module, teacher: Teacher, name: str) -> None:
        """Sets ``student_taps`` and ``teacher_taps`` where they follow from the models. Called first of all.

        Args:
            student: the model that is trained.
            teacher: its ``model`` is the teacher, its ``identity`` says which one it is.
            name: the distiller's name in the config, for messages.
        """

    def teacher_sums(self) -> List[FeatureSum]:
        """Weighted sums of teacher features that this iteration needs, made while the teacher runs; by default none."""
        return []

    def reroute(self, teacher: Dict[str, Tensor], batch: Batch) -> Rerouting:
        """Where ``reroutes`` is set: from which feature on the student goes on with another in this iteration.

        The teacher runs first then. A distiller that reroutes is the only one of its model.
        """
        raise NotImplementedError

    def weight_at(self, iteration: int) -> float:
        """The factor of the losses at a global iteration: a function of it alone, so it survives resuming."""
        if iteration < self.begin or (self.end is not None and iteration >= self.end):
            return 0.0
        if self.warmup:
            return self.loss_weight * min(1.0, (iteration - self.begin + 1) / self.warmup)
        return self.loss_weight

    @property
    def scale(self) -> float:
        """The factor beside the weight: ``loss_scale``, or what its calibration has found so far."""
        return self.fixed_scale if self.calibration is None else self.calibration.scale

    def compares_gradients(self, iteration: int) -> bool:
        """Whether its gradient is to be compared with the task loss's at an iteration, for the scale or for the log."""
        return self._calibrating or self._logs_gradients(iteration)

    def take_comparison(self, comparisons: Dict[str, GradientComparison], iteration: int, name: str) -> Dict[str, float]:
        """Calibrates the scale, if that is going on; returns what is to be logged, by ``gradient_*``.

        Args:
            comparisons: of the unweighted loss, by student tap.
            iteration: the global iteration.
            name: the distiller's name in the config.
        """
        total = sum(comparisons.values(), GradientComparison(0, 0, 0))
        if self._calibrating:
            self.calibration.observe(total, name)
        if not self._logs_gradients(iteration):
            return {}
        factor = self.weight_at(iteration) * self.scale
        log = {}
        taps = zip((f'_{short}' for short in short_names(list(comparisons))), comparisons.values())
        for suffix, comparison in (('', total), *taps):
            if comparison.ratio is not None:
                log[f'gradient_ratio{suffix}'] = comparison.ratio * factor
                log[f'gradient_cosine{suffix}'] = comparison.cosine
        return log

    @property
    def _calibrating(self) -> bool:
        return self.calibration is not None and not self.calibration.finished

    def _logs_gradients(self, iteration: int) -> bool:
        return self.log_gradients > 0 and iteration % self.log_gradients == 0

    def taps_at(self, iteration: int) -> TapNames:
        """The taps it needs at a global iteration at which it acts: all, unless a sub-class needs fewer at times."""
        return TapNames(self.student_taps, self.teacher_taps)

    def idle_parameters(self, iteration: int) -> Iterable[nn.Parameter]:
        """Parameters that get no gradient at an iteration at which it acts; DDP has to be told."""
        return ()

    def prepare(self, student: Dict[str, TapInfo], teacher: Dict[str, TapInfo], name: str) -> None:
        """Makes what depends on shapes. Called once, after the dry run and before the optimiser is built.

        Args:
            student, teacher: what is known of every tap, by address.
            name: the distiller's name in the config, for messages.
        """

    def describe(self) -> str:
        """One line for the log: which loss compares what."""
        return f'{type(self).__name__}, student {", ".join(self.student_taps)}; teacher {", ".join(self.teacher_taps)}'

    def forward(self, student: Dict[str, Tensor], teacher: Dict[str, Tensor], batch: Batch) -> Dict[str, Tensor]:
        """Losses by name, each containing ``loss``, without the weight. Features are by address; autocast is off."""
        raise NotImplementedError


def _checked_scale(scale) -> float:
    try:
        return check_number('loss_scale', scale, above=0)
    except DistillationError:
        raise DistillationError(f"loss_scale: {scale!r}. Accepted: a number > 0, or 'auto'.") from None


Pair = Union[str, Sequence[str], Dict[str, str]]


def parse_pairs(pairs: Sequence[Pair], key: str) -> List[Tuple[str, str]]:
    """``pairs`` of a config as (student tap, teacher tap).

    Args:
        pairs: each a pair of addresses, ``dict(student=..., teacher=...)``, or one address for both sides.
        key: the config key, for messages.

    Raises:
        DistillationError: for anything else, or no pairs.
    """
    accepted = ("Accepted: a list of (student tap, teacher tap), of dict(student=..., teacher=...), or of one address "
                "for both, e.g. [('backbone.layer4@preact', 'backbone.layer4@preact')].")
    if isinstance(pairs, (str, dict)) or not isinstance(pairs, Sequence) or not pairs:
        raise DistillationError(f'{key}: {pairs!r} is not a list of pairs. {accepted}')
    parsed = []
    for number, pair in enumerate(pairs):
        if isinstance(pair, str):
            pair = (pair, pair)
        elif isinstance(pair, dict) and set(pair) == {'student', 'teacher'}:
            pair = (pair['student'], pair['teacher'])
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(address, str) for address in pair):
            raise DistillationError(f'{key}[{number}]: {pair!r} is not a pair of taps. {accepted}')
        parsed.append(tuple(pair))
    return parsed


def pair_names(pairs: Sequence[Tuple[str, str]]) -> List[str]:
    """A short, unique name per pair, for its loss: that of the student's tap."""
    return short_names([student for student, _ in pairs])


def short_names(addresses: Sequence[str]) -> List[str]:
    """A short, unique name per address: the last part of its path, or its position where that repeats.

    A part that is a number says nothing alone: ``'backbone.stages.2'`` is ``'stages.2'``.
    """
    names = [_last_part(address.split('@')[0].replace('[', '').replace(']', '')) for address in addresses]
    # A log name with "loss" in it would be added to the total.
    return [name if names.count(name) == 1 and not name.lstrip('-').isdigit() and 'loss' not in name else str(number)
            for number, name in enumerate(names)]


def _last_part(path: str) -> str:
    before, _, last = path.rpartition('.')
    return f'{_last_part(before)}.{last}' if before and last.isdigit() else last


def describe_pairs(pairs: Sequence[Tuple[str, str]]) -> str:
    """Which loss compares which taps, in one line."""
    return ', '.join(f'loss_{name}: student {student} with teacher {teacher}'
                     for name, (student, teacher) in zip(pair_names(pairs), pairs))
