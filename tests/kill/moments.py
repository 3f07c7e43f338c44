"""Named moments to die in: a process kills itself in a certain call of a certain function, which is otherwise as it is."""
import builtins
import functools
import importlib
import io
import os
import pathlib
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Tuple

from torch.utils.data import get_worker_info

BEFORE, AFTER, INSIDE = 'before', 'after', 'inside'
OPEN = 'open'


@dataclass(frozen=True)
class Moment:
    """A moment in a run.

    Attributes:
        name: what happens then, for a reader.
        where: the function, ``module:attribute.attribute``; ``'open'`` for the built-in one.
        when: before the call, after it, or, for files that are written, inside: when half of the bytes are on the disk.
        file: part of the name of the file that the call is about; of other files it does not count.
        calls: how many such calls a run has that is not interrupted, at least.
        in_worker: whether only the calls in a loader's worker count; then it is the worker that dies.
        rank: of the process that dies, where there are several.
    """
    name: str
    where: str
    when: str = BEFORE
    file: str = ''
    calls: int = 1
    in_worker: bool = False
    rank: int = 0


def install(moment: Moment, call: int, announce: Callable[[], None]) -> None:
    """Makes this process die in a call of a moment's function.

    Args:
        moment: where to die.
        call: in which call, from 1, of those that count.
        announce: called right before.
    """
    if moment.where == OPEN:
        builtins.open = io.open = dying(builtins.open, moment, call, announce)
        if hasattr(pathlib, '_NormalAccessor'):  # Python 3.10: pathlib keeps the function it found when it was imported
            pathlib._NormalAccessor.open = staticmethod(io.open)
        return
    module, _, path = moment.where.partition(':')
    owner: Any = importlib.import_module(module)
    *parents, name = path.split('.')
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, dying(getattr(owner, name), moment, call, announce))


def dying(function: Callable[..., Any], moment: Moment, call: int, announce: Callable[[], None]) -> Callable[..., Any]:
    """The function; in one of its calls the process ends."""
    seen = 0

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if not counts(moment, args, kwargs):
            return function(*args, **kwargs)
        seen += 1
        if seen != call:
            return function(*args, **kwargs)
        if moment.when == INSIDE:
            return io.BufferedWriter(DyingFile(args[0], announce)) if 'b' in mode(args, kwargs) else io.TextIOWrapper(
                io.BufferedWriter(DyingFile(args[0], announce)), write_through=True)
        if moment.when == AFTER:
            result = function(*args, **kwargs)
            die(announce)
            return result
        return die(announce)

    return traced


def counts(moment: Moment, args: Tuple[Any, ...], kwargs: Any) -> bool:
    """Whether a call is one of a moment's."""
    if moment.in_worker and get_worker_info() is None:
        return False
    if not moment.file:
        return True
    if moment.where == OPEN and 'r' in mode(args, kwargs):
        return False
    return any(moment.file in Path(name).name for name in args[:2] if isinstance(name, (str, Path)))


def mode(args: Tuple[Any, ...], kwargs: Any) -> str:
    """The mode of a call of ``open``."""
    return str(args[1] if len(args) > 1 else kwargs.get('mode', 'r'))


class DyingFile(io.FileIO):
    """A file whose process ends when half of the bytes of the first write are on the disk."""

    def __init__(self, path: Any, announce: Callable[[], None]):
        super().__init__(path, 'w')
        self._announce = announce

    def write(self, data: Any) -> int:
        content = bytes(data)
        super().write(content[:len(content) // 2])
        os.fsync(self.fileno())
        die(self._announce)
        return len(content)


def die(announce: Callable[[], None]) -> None:
    """Ends this process as an outsider would, without any clean-up."""
    announce()
    os.kill(os.getpid(), signal.SIGKILL)
