"""The peak of memory from a moment on."""
import re
from contextlib import suppress
from pathlib import Path
from typing import Optional

import torch

MIB = 2 ** 20


class Peak:
    """What is taken at most beyond what there is when this is made: on a GPU allocated, else resident memory (on Linux)."""

    def __init__(self) -> None:
        self._before: Optional[float] = None
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated() / MIB
            return
        with suppress(OSError):
            Path('/proc/self/clear_refs').write_text('5')  # the peak counts anew
            self._before = _resident('VmRSS')

    @property
    def mib(self) -> Optional[float]:
        """The peak so far in MiB; None where it cannot be told."""
        if self._before is None:
            return None
        now = torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else _resident('VmHWM')
        return None if now is None else max(0.0, now - self._before)


def _resident(field: str) -> Optional[float]:
    """A field of this process's status in MiB: VmRSS, its resident memory, or VmHWM, the peak of it."""
    found = re.search(rf'{field}:\s+(\d+)', Path('/proc/self/status').read_text())
    return None if found is None else int(found[1]) / 1024
