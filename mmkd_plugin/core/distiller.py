"""The base of every distiller: which taps it needs, how strong it is at an iteration, and its losses."""
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from .errors import DistillationError, check_number
from .taps import TapInfo


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


class Distiller(nn.Module):
    """Maps tapped features of student and teacher to named losses.

    A sub-class names its taps in ``student_taps`` and ``teacher_taps``, makes what depends on shapes in
    :meth:`prepare`, and returns its losses from :meth:`forward`. Its parameters (adapters) are trained by the run's
    optimiser and its ``state_dict`` is kept under ``mmkd`` in the checkpoint.

    Args:
        loss_weight: factor of all its losses. At 0 the distiller costs nothing.
        begin: first iteration at which it acts.
        end: first iteration at which it no longer acts; None for never.
        warmup: iterations over which the weight rises linearly from 0, starting at ``begin``.

    Raises:
        DistillationError: for a negative weight or a schedule that never acts.
    """

    def __init__(self, loss_weight: float = 1.0, begin: int = 0, end: Optional[int] = None, warmup: int = 0):
        super().__init__()
        check_number('loss_weight', loss_weight, least=0)
        check_number('begin', begin, least=0, whole=True)
        check_number('warmup', warmup, least=0, whole=True)
        if end is not None:
            check_number('end', end, above=begin, whole=True)
        self.loss_weight, self.begin, self.end, self.warmup = loss_weight, begin, end, warmup
        self.student_taps: List[str] = []
        self.teacher_taps: List[str] = []

    def weight_at(self, iteration: int) -> float:
        """The factor of the losses at a global iteration: a function of it alone, so it survives resuming."""
        if iteration < self.begin or (self.end is not None and iteration >= self.end):
            return 0.0
        if self.warmup:
            return self.loss_weight * min(1.0, (iteration - self.begin + 1) / self.warmup)
        return self.loss_weight

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
    """A short, unique loss name per pair: the last part of the student's path, or the pair's number where that repeats."""
    names = [address.split('@')[0].rsplit('.', 1)[-1].replace('[', '').replace(']', '') for address, _ in pairs]
    return [name if names.count(name) == 1 and not name.lstrip('-').isdigit() else str(number)
            for number, name in enumerate(names)]


def describe_pairs(pairs: Sequence[Tuple[str, str]]) -> str:
    """Which loss compares which taps, in one line."""
    return ', '.join(f'loss_{name}: student {student} with teacher {teacher}'
                     for name, (student, teacher) in zip(pair_names(pairs), pairs))
