"""What of a search is more than noise: means over their standard errors, agreement of rankings, entropy of weights.

One step's hypergradient is mostly noise (a signal-to-noise ratio of 0.1 to 0.5), so a search looks at windows of steps.
"""
import itertools
import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from ..utils.records import Array, Fields, Listing, Real, Whole

RECENT = 8
"""The windows whose agreement is shown on the way."""
RELIABLE = 0.6
"""Kendall's tau from which on two rankings count as the same one, seen twice."""

CONCENTRATED = 0.4
"""The relative entropy of weights below which one has nearly all: 0.75 of the weight, of six members."""


def significance(samples: Tensor) -> Tensor:
    """The mean of each member over its standard error, ``mean / (s / sqrt(n))``.

    Args:
        samples: (n, P), n of one and the same quantity.

    Returns:
        (P,); 0 where nothing is known of the error: of one sample, or where all are equal.
    """
    if len(samples) < 2:
        return torch.zeros_like(samples[0])
    error = samples.std(0) / math.sqrt(len(samples))
    return torch.where(error > 0, samples.mean(0) / error, 0)


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings: 1 where they are the same, -1 where one is the other's reverse, about 0 by chance.

    Of all pairs of members: (pairs in the same order less pairs in opposite order) over the geometric mean of the pairs that
    each ranking tells apart. 0 where one of them tells none apart.

    Args:
        one, other: a value for each member, the larger the better.
    """
    pairs = list(itertools.combinations(range(len(one)), 2))
    signs = [[(values[left] > values[right]) - (values[left] < values[right]) for left, right in pairs]
             for values in (one, other)]
    told = math.sqrt(math.prod(sum(map(abs, side)) for side in signs))
    return sum(first * second for first, second in zip(*signs)) / told if told else 0.0


def mean_tau(rankings: Sequence[Sequence[float]]) -> float:
    """The mean of Kendall's tau over all pairs of rankings; there have to be two of them at least."""
    taus = [kendall_tau(one, other) for one, other in itertools.combinations(rankings, 2)]
    return sum(taus) / len(taus)


def relative_entropy(weights: Sequence[float]) -> float:
    """The entropy of weights (>= 0) as shares of their sum, over its largest, log P: 1 where all are equal, 0 where one has
    all. Of one weight alone it is 1; where all are 0, too."""
    total = sum(weights)
    if len(weights) < 2 or total <= 0:
        return 1.0
    shares = [weight / total for weight in weights if weight > 0]
    return max(0.0, -sum(share * math.log(share) for share in shares)) / math.log(len(weights))


def doubts(agreement: Optional[float], entropy: float) -> List[str]:
    """What in a search that has ended speaks for another result with another seed, a line each.

    Args:
        agreement: the Kendall tau of the rankings in two halves of the search; None where it is not known.
        entropy: that of the last weights, see :func:`relative_entropy`.
    """
    found = []
    if agreement is not None and agreement < RELIABLE:
        found.append('the ranking of the members hangs on the noise: in two interleaved halves of the search it agrees by '
                     f'a Kendall tau of {agreement:.2f} only (1: the same ranking). A longer search, or the mean of several '
                     '(mmkd search CONFIG --seeds 3), is surer')
    if entropy < CONCENTRATED:
        found.append(f'nearly all weight is with one member (relative entropy {entropy:.2f}); with another seed it may be '
                     'another one. Compare several (mmkd search CONFIG --seeds 3), or lower the lr of the hook')
    return found


class Seen(NamedTuple):
    """A window of hypergradients.

    Attributes:
        mean: (P,), their mean.
        significance: (P,), the mean over its standard error.
    """
    mean: Tensor
    significance: Tensor


class Evidence:
    """What the hypergradients of a search have shown so far, window after window.

    Args:
        members: P.
        window: how many hypergradients make a window.

    Attributes:
        windows: how many windows there have been.
    """

    def __init__(self, members: int, window: int):
        self.members, self.window = members, window
        self.windows = 0
        self._samples: List[Tensor] = []
        self._recent: List[List[float]] = []
        self._halves = [[0.0] * members, [0.0] * members]

    def add(self, gradient: Tensor) -> Optional[Seen]:
        """Takes a hypergradient (P,); returns the window that it fills, if it does."""
        self._samples.append(gradient.detach().double().cpu())
        if len(self._samples) < self.window:
            return None
        samples, self._samples = torch.stack(self._samples), []
        seen = Seen(samples.mean(0), significance(samples))
        # A negative gradient says that more of a member would serve validation: rankings are of the better.
        better = (-seen.significance).tolist()
        half = self._halves[self.windows % 2]
        half[:] = [before + now for before, now in zip(half, better)]
        self._recent = [*self._recent[1 - RECENT:], better]
        self.windows += 1
        return seen

    @property
    def overall(self) -> List[float]:
        """For each member the significance of all windows together (Stouffer's: their sum over the root of their number);
        positive where more of it would have served validation."""
        return [(one + other) / math.sqrt(max(1, self.windows)) for one, other in zip(*self._halves)]

    @property
    def agreement(self) -> Optional[float]:
        """Kendall's tau between the ranking in all windows of even and in all of odd number; None where one is missing.

        Neither half knows the other's noise. Whatever the windows share, the weights at which they were seen, they agree on.
        """
        return kendall_tau(*self._halves) if self.windows > 1 else None

    @property
    def recent_agreement(self) -> Optional[float]:
        """The same of the last eight windows."""
        if len(self._recent) < 2:
            return None
        return kendall_tau(*([sum(column) for column in zip(*self._recent[start::2])] for start in (0, 1)))

    def state(self) -> Dict[str, Any]:
        """For a checkpoint."""
        return dict(samples=[sample.clone() for sample in self._samples], recent=[list(one) for one in self._recent],
                    halves=[list(half) for half in self._halves], windows=self.windows)

    def check(self, state: Any, taken: int) -> None:
        """Raises :class:`DistillationError` for a state that so many hypergradients cannot have left.

        Args:
            state: as :meth:`state` returns it.
            taken: how many hypergradients had been added.
        """
        row, windows = Listing(Real(), self.members), taken // self.window
        Fields(dict(samples=Listing(Array(torch.float64, (self.members,)), taken % self.window),
                    recent=Listing(row, min(windows, RECENT)), halves=Listing(row, 2),
                    windows=Whole(windows, windows))).check(state)

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned, for the same members and window."""
        self._samples = [sample.clone() for sample in state['samples']]
        self._recent, self._halves = [list(one) for one in state['recent']], [list(half) for half in state['halves']]
        self.windows = state['windows']
