"""What a few iterations, and the teachers on validation images, have shown: plain numbers."""
import math
import statistics
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Set


@dataclass(frozen=True)
class TeacherScore:
    """How good a teacher is on validation images, seen as it sees them in the training.

    Attributes:
        key: where the teacher stands in the config.
        images: on how many images.
        metrics: what the run's evaluator says, by name.
        classes: how many classes there are; None where there are none.
        why_not: why it was not measured; '' where it was.
    """
    key: str
    images: int = 0
    metrics: Dict[str, float] = field(default_factory=dict)
    classes: Optional[int] = None
    why_not: str = ''


@dataclass
class Measured:
    """What the iterations of a short run were like.

    Attributes:
        iterations: how many were run.
        wanted: how many were to be run at most.
        size: (B, C, H, W) of the first batch.
        ratios: by the name of a distiller, and by ``(name, student tap)``, its gradient over the task loss's, iteration by
            iteration.
        cosines: likewise, the cosine of the angle between the two.
        calibrated: by name, the weight of the distillers whose scale is found in the training (``loss_scale='auto'``); here
            they have acted with scale 1.
        compared: names of the distillers whose gradients were looked at.
        losses: what the run logs, iteration by iteration, by name.
        plain, distilled: seconds of an iteration without and with distillation.
        memory: peak MiB that an iteration adds, by ``'plain'`` and ``'distilled'``; empty where it cannot be told.
        scores: how good the teachers are.
        classes_of_data: how many classes the training set says it has; None where it says nothing.
    """
    iterations: int = 0
    wanted: int = 0
    size: Sequence[int] = ()
    ratios: Dict[object, List[float]] = field(default_factory=dict)
    cosines: Dict[object, List[float]] = field(default_factory=dict)
    calibrated: Dict[str, float] = field(default_factory=dict)
    compared: Set[str] = field(default_factory=set)
    losses: Dict[str, List[float]] = field(default_factory=dict)
    plain: List[float] = field(default_factory=list)
    distilled: List[float] = field(default_factory=list)
    memory: Dict[str, float] = field(default_factory=dict)
    scores: List[TeacherScore] = field(default_factory=list)
    classes_of_data: Optional[int] = None

    def ratio(self, name: object) -> Optional[float]:
        """The geometric mean of the ratios; None where there are none."""
        values = self.ratios.get(name)
        return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None

    def scale(self, name: str) -> float:
        """What a calibration over these iterations would multiply a distiller's gradient by; 1 where there is none."""
        weight, ratio = self.calibrated.get(name), self.ratio(name)
        return weight / ratio if weight and ratio else 1.0

    def cosine(self, name: object) -> Optional[float]:
        """The mean of the cosines; None where there are none."""
        values = self.cosines.get(name)
        return math.fsum(values) / len(values) if values else None

    @property
    def seconds(self) -> Optional[Dict[str, float]]:
        """Of an iteration ``'plain'`` and ``'distilled'``, medians without the first; None where they were not measured."""
        if not self.plain or not self.distilled:
            return None
        return {name: statistics.median(values[1:] or values)
                for name, values in dict(plain=self.plain, distilled=self.distilled).items()}

    @property
    def teachers_seconds(self) -> float:
        """What distillation adds to an iteration, in seconds for each pixel of the batch; 0 where that was not measured."""
        seconds, size = self.seconds, self.size
        if seconds is None or len(size) != 4:
            return 0.0
        return max(0.0, seconds['distilled'] - seconds['plain']) / (size[0] * size[2] * size[3])

    @property
    def overhead(self) -> Optional[float]:
        """What distillation adds to an iteration, as a share of one without it; None where that was not measured."""
        seconds = self.seconds
        return None if seconds is None else seconds['distilled'] / seconds['plain'] - 1
