"""Times of several ways to do one thing, measured in turn, and a rule that chooses one only where it is surely faster.

On a shared machine a time alone says little: what slows the machine down for a second is larger than what is sought. So
every round calls all of them, in an order that turns round, and what is compared is their ratio within a round.
"""
import math
import statistics
import time
from dataclasses import dataclass
from typing import Callable, Collection, Dict, List, Mapping, Optional

import torch

MARGIN = 0.02
"""By how much something has to be faster than the plain way, as a part of its time, before it is taken."""
LEAST_ROUNDS = 3
"""With fewer rounds nothing but the plain way is taken."""


@dataclass(frozen=True)
class Timings:
    """What was measured.

    Attributes:
        seconds: by name, the seconds of each round; as many for every name.
        spent: seconds of everything, with warm-up and preparations.
    """
    seconds: Mapping[str, List[float]]
    spent: float

    @property
    def rounds(self) -> int:
        """How many rounds were measured."""
        return min(map(len, self.seconds.values()))

    def median(self, name: str) -> float:
        """The median of the seconds of one call; nan where nothing was measured."""
        return statistics.median(self.seconds[name]) if self.rounds else math.nan

    def ratio(self, name: str, to: str) -> float:
        """The median over the rounds of the time of ``name`` divided by that of ``to``; nan where nothing was measured."""
        ratios = [mine / other for mine, other in zip(self.seconds[name], self.seconds[to])]
        return statistics.median(ratios) if ratios else math.nan


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int = 8, warmup: int = 1, limit: float = math.inf,
                prepare: Optional[Callable[[str], object]] = None, device: Optional[torch.device] = None,
                clock: Callable[[], float] = time.perf_counter) -> Timings:
    """Times each of some calls, round by round.

    Args:
        calls: what is timed, by name.
        rounds: how many rounds are measured at most.
        warmup: how many rounds come before them.
        limit: seconds; no round begins that would take longer than that, were it as long as the one before. The first
            one always runs.
        prepare: called with a name before its call; its time does not count as that of the call.
        device: where the calls work; on a GPU its events are asked for the time, elsewhere the clock.
        clock: seconds on a CPU; ``time.process_time`` counts those of all threads, whatever else the machine does.
    """
    names = list(calls)
    seconds: Dict[str, List[float]] = {name: [] for name in names}
    timed = _seconds_on_gpu if device is not None and device.type == 'cuda' else _seconds_on_cpu
    started = time.perf_counter()
    begun, last = started, 0.0
    for number in range(warmup + rounds):
        if begun - started + last > limit:
            break
        # There and back: none of them always comes after the same one.
        for name in names if number % 2 == 0 else reversed(names):
            if prepare is not None:
                prepare(name)
            spent = timed(calls[name], clock)
            if number >= warmup:
                seconds[name].append(spent)
        ended = time.perf_counter()
        begun, last = ended, ended - begun
    return Timings(seconds, begun - started)


def choose(timings: Timings, plain: str, among: Optional[Collection[str]] = None, margin: float = MARGIN,
           least_rounds: int = LEAST_ROUNDS) -> str:
    """The fastest way, or the plain one where no other is faster beyond doubt.

    Another one is taken only if its median ratio to the plain one is below ``1 - margin`` and it was the faster of the two
    in three rounds out of four.

    Args:
        timings: what was measured.
        plain: the name of the way that is taken in doubt.
        among: which names may be taken; all by default.
        margin: by how much another one has to be faster, as a part of the plain one's time.
        least_rounds: how many rounds have to have been measured.
    """
    if timings.rounds < least_rounds:
        return plain
    best, best_ratio = plain, 1 - margin
    for name in timings.seconds if among is None else among:
        faster = sum(mine < other for mine, other in zip(timings.seconds[name], timings.seconds[plain]))
        ratio = timings.ratio(name, plain)
        if ratio < best_ratio and faster >= 0.75 * timings.rounds:
            best, best_ratio = name, ratio
    return best


def _seconds_on_cpu(call: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    call()
    return clock() - started


def _seconds_on_gpu(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
