"""What the benchmarks share: times measured in turn, peak memory in a process of its own."""
import multiprocessing
import re
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch


def measure(step: Callable[[], None], own_time: bool = False) -> float:
    """Seconds of one call.

    Args:
        step: what is measured.
        own_time: on a CPU, the time of this process on all its cores instead of the clock's: for machines that are shared.
    """
    if not torch.cuda.is_available():
        clock = time.process_time if own_time else time.perf_counter
        started = clock()
        step()
        return clock() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(callables: Dict[Any, Callable[[], None]], rounds: int, warmup: int = 2,
            own_time: bool = False) -> Dict[Any, List[float]]:
    """Seconds of each callable, measured round by round, so that what slows the machine down meets all of them."""
    measured = {name: [] for name in callables}
    for number in range(rounds + warmup):
        for name, step in callables.items():
            seconds = measure(step, own_time)
            if number >= warmup:
                measured[name].append(seconds)
    return measured


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
    """What ``function(*arguments)`` returns in a process of its own, which holds nothing of this one."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(function, arguments)


def device_name(threads: int) -> str:
    """What the figures were measured on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {threads} threads'


def _resident_kib(field: str) -> int:
    """A field of this process's status: VmRSS, its resident memory, or VmHWM, the peak of it."""
    return int(re.search(rf'{field}:\s+(\d+)', Path('/proc/self/status').read_text())[1])
