"""What the benchmarks share: times measured in turn, peak memory in a process of its own, and the table they print."""
import multiprocessing
import os
import re
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence
from unittest.mock import patch

import torch


class Times(NamedTuple):
    """One call: seconds of the clock (on a GPU, between events on its stream), and of this process on all its cores."""
    wall: float
    cpu: float


def measure(step: Callable[[], None]) -> Times:
    """The times of one call."""
    if torch.cuda.is_available():
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        cpu = time.process_time()
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return Times(begin.elapsed_time(end) / 1e3, time.process_time() - cpu)
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def in_turn(callables: Mapping[Any, Callable[[], None]], rounds: int, warmup: int = 2) -> Dict[Any, List[Times]]:
    """The times of each callable, measured round by round, so that what slows the machine down meets all of them."""
    measured: Dict[Any, List[Times]] = {name: [] for name in callables}
    for number in range(rounds + warmup):
        for name, step in callables.items():
            times = measure(step)
            if number >= warmup:
                measured[name].append(times)
    return measured


def median_of(measured: Sequence[Times], clock: str = 'wall') -> float:
    """The median in seconds by one of the two clocks, ``'wall'`` or ``'cpu'``."""
    return statistics.median(getattr(times, clock) for times in measured)


def ratios(measured: Mapping[Any, Sequence[Times]], names: Sequence[Any], beside: Sequence[Any], clock: str) -> List[float]:
    """Per round, what the callables of ``names`` took together as a share of what those of ``beside`` took."""
    def together(group: Sequence[Any]) -> List[float]:
        return [sum(getattr(times, clock) for times in of_round) for of_round in zip(*(measured[name] for name in group))]

    return [own / other for own, other in zip(together(names), together(beside))]


def spread(values: Sequence[float]) -> str:
    """Median and range, as the tables show them."""
    return f'{statistics.median(values):.3f} ({min(values):.2f} to {max(values):.2f})'


def print_table(measured: Mapping[Any, Sequence[Times]], beside: Sequence[Any], label: str,
                memory: Optional[Mapping[Any, float]] = None, calls: Optional[Mapping[Any, int]] = None) -> None:
    """Prints one table in markdown: a row for each callable.

    Args:
        measured: times by name.
        beside: names of those that the ratios are taken to, together.
        label: what the ratios are taken to, in words.
        memory: peak MiB by name.
        calls: how many steps a callable makes, where it is not one.
    """
    print(f'| step | ms | CPU ms | ms / {label}: median of the rounds, range | the same in CPU time | peak MiB |')
    print('|---|---|---|---|---|---|')
    for name, times in measured.items():
        count = (calls or {}).get(name, 1)
        cells = [f'{median_of(times, clock) / count * 1e3:.1f}' for clock in Times._fields]
        cells += [spread([value / count for value in ratios(measured, [name], beside, clock)]) for clock in Times._fields]
        peak = '' if memory is None or name not in memory else f'{memory[name]:.0f}'
        print(f'| {name} | {" | ".join(cells)} | {peak} |')
    print()


def peak_memory(step: Callable[[], None], times: int = 3) -> float:
    """MiB that calls of ``step`` add at most to what is there: resident memory, or allocated memory on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(times):
            step()
        return (torch.cuda.max_memory_allocated() - before) / 2 ** 20
    Path('/proc/self/clear_refs').write_text('5')  # the peak counts anew, without what building took
    before = _resident_kib('VmRSS')
    for _ in range(times):
        step()
    return (_resident_kib('VmHWM') - before) / 2 ** 10


def in_fresh_process(function: Callable, *arguments) -> Any:
    """What ``function(*arguments)`` returns in a process of its own, which holds nothing of this one.

    There glibc gives back at once what is freed: what its heap keeps for later differs by half from run to run.
    """
    with patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_='131072'), multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(function, arguments)


def print_memory(memory: Mapping[Any, float]) -> None:
    """Prints peak MiB by name as a table in markdown."""
    print('| step | peak MiB |\n|---|---|')
    for name, peak in memory.items():
        print(f'| {name} | {peak:.0f} |')
    print()


def device_name(threads: int) -> str:
    """What the figures were measured on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {threads} threads'


def _resident_kib(field: str) -> int:
    """A field of this process's status: VmRSS, its resident memory, or VmHWM, the peak of it."""
    return int(re.search(rf'{field}:\s+(\d+)', Path('/proc/self/status').read_text())[1])
