"""Several searches of one thing, that differ in their seeds alone, made into one process."""
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Mapping, Sequence

import torch
from torch import Tensor

from ..utils.errors import DistillationError
from .artefact import read_process, write_process
from .process import Process
from .significance import RELIABLE, mean_tau
from .weights import NORMALISATIONS

SHARED = ('members', 'normalisation', 'bias', 'tau', 'total', 'unit', 'length', 'every')
"""What processes have to share for their records to be of the same quantity at the same position."""
DIGITS = 4


def mean_weights(process: Process) -> Tensor:
    """The weight of each member, (P,), as the mean over the records of a process."""
    normalise = NORMALISATIONS[process.normalisation]
    return torch.stack([normalise(record, process.bias) for record in process.importance]).mean(0)


def average(processes: Mapping[str, Process]) -> Process:
    """The process whose importance is the mean of that of several, at every position; its scales are geometric means.

    It has the seeds of all, and in ``stability`` the Kendall tau between their rankings of the members by mean weights (the
    mean over all pairs of processes), and those weights' means over all.

    Args:
        processes: two or more, by the name under which messages show them.

    Raises:
        DistillationError: for one that is of other members, normalisation, or positions than the first.
    """
    names = list(processes)
    first = processes[names[0]]
    for name in names[1:]:
        for key in SHARED:
            theirs, ours = getattr(processes[name], key), getattr(first, key)
            if theirs != ours:
                raise _other(name, f'{key} is {_shown(theirs)}', f'{_shown(ours)}, as in {names[0]}')
        if (processes[name].scales is None) != (first.scales is None):
            raise _other(name, 'one has scales, the other none', f'scales as in {names[0]}')
    several = list(processes.values())
    weights = torch.stack([mean_weights(process) for process in several])
    stability = dict(tau=round(mean_tau(weights.tolist()), DIGITS),
                     weights=[round(weight, DIGITS) for weight in weights.mean(0).tolist()])
    scales = torch.tensor([process.scales for process in several], dtype=torch.float64).log().mean(0).exp().tolist() if (
        first.scales is not None) else None
    seeds = [seed for process in several for seed in _seeds(process)]
    importance = torch.stack([process.importance for process in several]).mean(0)
    return replace(first, importance=importance, scales=scales, seeds=seeds, stability=stability)


def average_files(files: Sequence[Path], out: Path) -> List[str]:
    """Averages process files into one.

    Args:
        files: process files, two or more.
        out: the file to write.

    Returns:
        What there is to say about it, a line each.

    Raises:
        DistillationError: for a file that is none, or is not of the same as the others.
    """
    process = average({str(file): read_process(file) for file in files})
    write_process(out, process)
    tau = process.stability['tau']
    lines = [f'{out}: the mean of {len(files)} searches. Their rankings of the members agree by a Kendall tau of {tau:.2f} '
             '(1: the same ranking, 0: by chance)']
    if tau < RELIABLE:
        lines.append('The result of one of them hangs on its seed: a longer search, or a lower lr of the hook, is surer')
    return lines


def _seeds(process: Process) -> List[int]:
    own = process.meta.get('seed')
    return list(process.seeds) or ([own] if isinstance(own, int) else [])


def _other(name: str, what: str, accepted: str) -> DistillationError:
    return DistillationError(f'is no search of the same: {what}', given=name, accepted=accepted)


def _shown(value: Any) -> str:
    return '; '.join(map(str, value)) if isinstance(value, list) else repr(value)
