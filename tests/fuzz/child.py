"""Runs one input in a forked child with limits of time and memory, and says what became of it."""
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List

from mmkd_plugin.utils.errors import DistillationError

SECONDS = 20.0
"""Longest time an input may take: of the processor, or by the clock where the child does nothing."""
BUSY_MACHINE = 6
"""By the clock a child that works may take so many times as long: others may use the machine."""
ADDRESS_SPACE = 8 * 2 ** 30
"""Bytes a child may map beyond what its parent has: a protection of the machine, above what is judged."""
LONGEST_TEXT = 100_000


@dataclass
class Report:
    """What became of an input.

    Attributes:
        kind: 'done', 'refused' (a DistillationError), 'raised' (another exception), 'crashed' or 'hung'.
        facts: what the input's work returned.
        error: name of the exception's class.
        text: its message.
        said: the parts of a DistillationError: path, accepted, nearest, hint.
        frames: file, line and function of every frame of the traceback, the innermost last.
        tail: the last lines of the traceback.
        seconds: of the processor.
        megabytes: by which the memory of the process grew.
    """
    kind: str
    facts: Dict[str, Any] = field(default_factory=dict)
    error: str = ''
    text: str = ''
    said: Dict[str, Any] = field(default_factory=dict)
    frames: List[List[Any]] = field(default_factory=list)
    tail: List[str] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0


def run_in_child(work: Callable[[], Dict[str, Any]], folder: Path) -> Report:
    """Runs ``work`` in a child that works in a folder of its own.

    Args:
        work: what is to be tried; returns facts that JSON can hold.
        folder: an empty folder; ``log`` in it takes what is printed.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(work, folder, writer)
    os.close(writer)
    said, hung = _read(reader, pid)
    _, status, usage = os.wait4(pid, 0)
    before, _, said = said.partition(b'\n')
    report = _reported(said, hung, status, folder)
    report.seconds = usage.ru_utime + usage.ru_stime
    report.megabytes = max(0.0, usage.ru_maxrss * 1024 - int(before)) / 2 ** 20 if before else 0.0
    return report


def _child(work: Callable[[], Dict[str, Any]], folder: Path, writer: int) -> None:
    code = 1
    try:
        os.setsid()
        os.write(writer, b'%d\n' % _resident())  # the memory it begins with
        log = os.open(folder / 'log', os.O_WRONLY | os.O_CREAT, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_mapped() + ADDRESS_SPACE, resource.RLIM_INFINITY))
        said = json.dumps(observed(work), default=str).encode()
        with os.fdopen(writer, 'wb') as pipe:
            pipe.write(said)
        code = 0
    finally:
        os._exit(code)


def observed(work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """What a report says about ``work()``: its facts, or the exception it ended with."""
    try:
        return dict(kind='done', facts=work())
    except BaseException as error:  # whatever it is, it is an outcome
        refused = isinstance(error, DistillationError)
        said = {name: getattr(error, name) for name in ('path', 'accepted', 'nearest', 'hint')} if refused else {}
        frames = [[frame.filename, frame.lineno, frame.name] for frame in traceback.extract_tb(error.__traceback__)]
        return dict(kind='refused' if refused else 'raised', error=type(error).__name__, text=_text(error), said=said,
                    frames=frames[-60:], tail=_tail(error))


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as other:  # the message itself may be at fault
        return f'<a message that raises {type(other).__name__}: {other}>'
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + f'... ({len(text)} characters)'


def _tail(error: BaseException) -> List[str]:
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
    except Exception:  # see `_text`
        return []
    return [line[:500] for line in ''.join(lines)[-6000:].splitlines()[-24:]]


def _read(reader: int, pid: int) -> 'tuple[bytes, bool]':
    """What the child writes until it ends, and whether it had to be ended."""
    started, parts = time.monotonic(), []
    with os.fdopen(reader, 'rb', buffering=0) as pipe:
        while True:
            if select.select([pipe], [], [], 0.5)[0]:
                part = pipe.read(2 ** 20)
                if not part:
                    return b''.join(parts), False
                parts.append(part)
            elif _too_long(pid, time.monotonic() - started):
                os.killpg(pid, signal.SIGKILL)
                return b''.join(parts), True


def _too_long(pid: int, elapsed: float) -> bool:
    if elapsed < SECONDS:
        return False
    used = _processor_seconds(pid)
    return used > SECONDS or used < SECONDS / 4 or elapsed > SECONDS * BUSY_MACHINE


def _processor_seconds(pid: int) -> float:
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _reported(said: bytes, hung: bool, status: int, folder: Path) -> Report:
    if hung:
        return Report('hung', tail=_last_lines(folder))
    if said:
        return Report(**json.loads(said))
    code = os.waitstatus_to_exitcode(status)
    return Report('crashed', text=f'ended by signal {-code}' if code < 0 else f'ended with {code}', tail=_last_lines(folder))


def _last_lines(folder: Path) -> List[str]:
    log = folder / 'log'
    return log.read_text(errors='replace').splitlines()[-20:] if log.is_file() else []


def _resident() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


def _mapped() -> int:
    return int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
