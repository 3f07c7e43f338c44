"""Which group is searched at which iteration: the groups one after the other, shallow to deep (algorithm 1 of DFA)."""
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Union

from ..utils.errors import DistillationError


@dataclass(frozen=True)
class Phase:
    """The iterations of one group.

    Attributes:
        group: the group's index.
        begin: first iteration.
        end: first iteration after it.
        beta_begin: first iteration in which beta is trained too.
    """
    group: int
    begin: int
    end: int
    beta_begin: int


def phases_of(names: Dict[int, str], total: int, iterations: Union[int, Sequence[int], None] = None,
              weights_first: float = 0.0) -> List[Phase]:
    """The phases of a search.

    Args:
        names: name of every group that is searched, by its index, in order.
        total: how many iterations the run has.
        iterations: I_s, how many iterations a group is searched for: one number for every group, or a list with one for
            each; by default the run is cut into equal parts (the last group has the rest).
        weights_first: fraction of each phase, at its beginning, in which only weights are trained.

    Raises:
        DistillationError: if the run has too few iterations, or another number than is given here.
    """
    if iterations is None:
        if total < len(names):
            raise DistillationError(f'the run has {total} iterations (train_cfg) for {len(names)} groups to search '
                                    f'({", ".join(names.values())})', path='iterations',
                                    accepted='one for each at least; hundreds are needed')
        lengths = [total // len(names)] * len(names)
        lengths[-1] += total - sum(lengths)
    else:
        lengths = list(iterations) if isinstance(iterations, Sequence) else [iterations] * len(names)
    if len(lengths) != len(names):
        raise DistillationError(f'has {len(lengths)} numbers for {len(names)} groups with more than one layer '
                                f'({", ".join(names.values())})', path='iterations')
    if sum(lengths) != total:
        raise DistillationError(f'the phases take {sum(lengths)} iterations ({" + ".join(map(str, lengths))} for '
                                f'{", ".join(names.values())}), the run has {total} (train_cfg)', path='iterations',
                                accepted='the same in both')
    phases: List[Phase] = []
    begin = 0
    for group, length in zip(names, lengths):
        phases.append(Phase(group, begin, begin + length, begin + int(weights_first * length)))
        begin += length
    return phases


def phase_at(phases: Sequence[Phase], iteration: int) -> Optional[Phase]:
    """The phase an iteration belongs to."""
    return next((phase for phase in phases if phase.begin <= iteration < phase.end), None)


def beta_steps_before(phases: Sequence[Phase], iteration: int) -> int:
    """How many steps of beta the iterations before this one have."""
    return sum(max(0, min(phase.end, iteration) - phase.beta_begin) for phase in phases)
