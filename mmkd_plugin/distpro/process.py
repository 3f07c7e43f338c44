"""A process: the importance of every pathway over a search, stretched to any length (DistPro, section 3.3)."""
import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Sequence

from torch import Tensor

from .members import Member, entry_of
from .pathways import Pathway

UNITS = ('iter', 'epoch')
DECIMALS = 6
BYTES_PER_NUMBER = 12  # sign, two digits, the decimals, separator


@dataclass(frozen=True)
class Process:
    """A^p = {a_t^p}: how the importance of P members went over a search.

    Attributes:
        members: pathways, and losses of other distillers, in the order of the columns of ``importance``.
        normalisation, bias, tau: how importance becomes weights; see :mod:`~mmkd_plugin.distpro.weights`.
        importance: (N, P) float64, the recorded a_t.
        length: T_search, in ``unit`` s.
        every: distance between records; the last may be nearer.
        unit: ``'iter'`` or ``'epoch'``.
        meta: where it comes from: data set, networks, versions, seed, date.
        total: what all members weigh together where they are equally important; None: what the normalisation gives.
        scales: (P,) the factor of each loss beside its weight, which makes it as strong as the task loss; None: 1 each.
        seeds: those of the searches that it is the mean of; none where it is of one search, whose seed ``meta`` has.
        stability: how much of it is chance, by name: a number, a list of numbers, or None where it is not known.
    """
    members: Sequence[Member]
    normalisation: str
    bias: float
    tau: Optional[float]
    importance: Tensor
    length: int
    every: int = 1
    unit: str = 'iter'
    meta: Dict[str, Any] = field(default_factory=dict)
    total: Optional[float] = None
    scales: Optional[List[float]] = None
    seeds: Sequence[int] = ()
    stability: Dict[str, Any] = field(default_factory=dict)

    @property
    def pathways(self) -> List[Pathway]:
        """The members that are pathways."""
        return [member for member in self.members if isinstance(member, Pathway)]

    @property
    def positions(self) -> List[int]:
        """The iterations (or epochs) of the records."""
        return record_positions(self.length, self.every)

    def at(self, step: int, steps: int) -> Tensor:
        """Importance (P,) at ``step`` (from 0) of a run of ``steps``; see :func:`interpolate`."""
        return interpolate(self.importance, self.positions, step, steps)

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing that a file of version 1 could not hold: pathways only, as strong as they are."""
        return (len(self.pathways) == len(self.members) and self.total is None and self.scales is None
                and not self.seeds and not self.stability)

    def digest(self) -> str:
        """A short hash of what is replayed, for telling two processes apart; not of where it comes from, how sure it is."""
        replayed = replace(self, meta={}, seeds=(), stability={})
        return hashlib.sha256(json.dumps(replayed.content(), sort_keys=True).encode()).hexdigest()[:12]

    def content(self) -> Dict[str, Any]:
        """What the file holds, by key: of version 1 where that is enough, of version 2 otherwise."""
        records = [[round(value, DECIMALS) for value in record] for record in self.importance.tolist()]
        entries = [entry_of(member) for member in self.members]
        weighing = dict(normalisation=self.normalisation, bias=self.bias, tau=self.tau)
        course = dict(unit=self.unit, length=self.length, every=self.every)
        if self.is_plain:
            return dict(pathways=entries, **weighing, **course, meta=self.meta, importance=records)
        return dict(members=entries, **weighing, total=self.total, scales=self.scales, **course,
                    seeds=list(self.seeds), stability=self.stability, meta=self.meta, importance=records)


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
