"""A process: the importance of every pathway over a search, stretched to any length (DistPro, section 3.3)."""
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from torch import Tensor

from .pathways import Pathway

UNITS = ('iter', 'epoch')
DECIMALS = 6
BYTES_PER_NUMBER = 12  # sign, two digits, the decimals, separator


@dataclass(frozen=True)
class Process:
    """A^p = {a_t^p}: how the importance of P pathways went over a search.

    Attributes:
        pathways: the pathways, in the order of the columns of ``importance``.
        normalisation, bias, tau: how importance becomes weights; see :mod:`~mmkd_plugin.distpro.weights`.
        importance: (N, P) float64, the recorded a_t.
        length: T_search, in ``unit`` s.
        every: distance between records; the last may be nearer.
        unit: ``'iter'`` or ``'epoch'``.
        meta: where it comes from: data set, networks, versions, seed, date.
    """
    pathways: List[Pathway]
    normalisation: str
    bias: float
    tau: Optional[float]
    importance: Tensor
    length: int
    every: int = 1
    unit: str = 'iter'
    meta: Dict[str, Any] = field(default_factory=dict)

    @property
    def positions(self) -> List[int]:
        """The iterations (or epochs) of the records."""
        return record_positions(self.length, self.every)

    def at(self, step: int, steps: int) -> Tensor:
        """Importance (P,) at ``step`` (from 0) of a run of ``steps``; see :func:`interpolate`."""
        return interpolate(self.importance, self.positions, step, steps)

    def digest(self) -> str:
        """A short hash of what is replayed, for telling two processes apart; not of ``meta``, which has the date."""
        text = json.dumps({**self.content(), 'meta': {}}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def content(self) -> Dict[str, Any]:
        """What the file holds, by key."""
        records = [[round(value, DECIMALS) for value in record] for record in self.importance.tolist()]
        return dict(pathways=[vars(pathway) for pathway in self.pathways], normalisation=self.normalisation, bias=self.bias,
                    tau=self.tau, unit=self.unit, length=self.length, every=self.every, meta=self.meta, importance=records)


def record_positions(length: int, every: int) -> List[int]:
    """0, every, 2 * every, ..., and length - 1."""
    return [*range(0, length - 1, every), length - 1]


def choose_every(length: int, pathways: int, limit: int = 10 ** 6) -> int:
    """The least distance between records that keeps a file below ``limit`` bytes."""
    records = max(2, limit // (BYTES_PER_NUMBER * pathways + 8))
    return max(1, math.ceil((length - 1) / (records - 2))) if records > 2 else max(1, length - 1)


def interpolate(importance: Tensor, positions: Sequence[int], step: int, steps: int) -> Tensor:
    """Linear interpolation of a process, stretched from its own length to ``steps``; in a, before normalising (section 3.3).

    Step t of T reads position ``t * (T_search - 1) / (T - 1)``; T = 1 reads the first; beyond the end the last value holds.

    Args:
        importance: (N, P).
        positions: (N,) ascending, from 0 to T_search - 1.
        step, steps: t and T.

    Returns:
        (P,) in the dtype of ``importance``.
    """
    if steps == 1 or len(positions) == 1:
        return importance[0]
    place = min(step, steps - 1) * positions[-1] / (steps - 1)
    # Records are equidistant but for the last.
    left = min(int(place / positions[1]), len(positions) - 2)
    share = (place - positions[left]) / (positions[left + 1] - positions[left])
    return importance[left] + (importance[left + 1] - importance[left]) * share
