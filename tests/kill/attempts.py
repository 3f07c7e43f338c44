"""One process (or group of processes) of a run: started, killed at a moment, and waited for."""
import os
import random
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple, Union

from .cases import Case
from .moments import Moment
from .records import BEGUN, ENDED, FAILED, ITERATION, MOMENT, Record
from .worker import fork, train

LONGEST, SURVIVORS = 180.0, 60.0
"""Seconds: a process that has not ended by then hangs; those of a group whose member was killed have less."""
ERROR = re.compile(r'[\w.]*(Error|Exception|Interrupt): ')


@dataclass(frozen=True)
class AtRandom:
    """A kill from outside: so many iterations and so many seconds after the process has begun.

    Attributes:
        iterations: how many it is to have finished.
        seconds: how long to wait then.
        rank: of the process; None for all at once.
    """
    iterations: int
    seconds: float
    rank: Optional[int] = 0

    def __str__(self) -> str:
        who = 'all processes ' if self.rank is None else f'process {self.rank} ' if self.rank else ''
        return f'{who}{self.seconds:.3f} s after {self.iterations} iterations'


@dataclass(frozen=True)
class AtMoment:
    """A kill at a named moment, in a certain call."""
    moment: Moment
    call: int

    @property
    def rank(self) -> int:
        """The process that dies."""
        return self.moment.rank

    def __str__(self) -> str:
        return f'{self.moment.name} (call {self.call})'


Kill = Union[AtRandom, AtMoment]


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        codes: the exit code of each rank; -9 for one that was killed.
        killed: whether the kill ended a process that was running: it had begun, not ended, and its status says so.
        hangs: the ranks that had to be ended after the longest time.
        first: the first iteration it has finished, None if there is none.
        last: the last one.
        lasted: seconds between the end of the first of its processes and that of the last.
        log: what it printed, of all ranks.
    """
    codes: List[int]
    killed: bool
    hangs: List[int]
    first: Optional[int]
    last: Optional[int]
    lasted: float
    log: str

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return not any(self.codes)

    @property
    def error(self) -> str:
        """The last error in its output, or the last line if there is none."""
        lines = [line for line in self.log.splitlines() if line.strip()]
        errors = [line for line in lines if ERROR.match(line)]
        return ['', *lines[-1:], *errors][-1][:300]


class Attempt:
    """One go at a run: all its processes.

    Args:
        case: the case.
        folder: of the run; logs, records and final states lie there, the run's work dir is ``run``.
        inputs: the folder of what the case needs.
        number: of the attempt, from 1; from the second on it resumes.
    """

    def __init__(self, case: Case, folder: Path, inputs: Path, number: int):
        self.case, self.folder, self.inputs, self.number = case, folder, inputs, number
        self.records = [Record(folder / f'record-{number}-{rank}.jsonl') for rank in range(case.ranks)]
        self.logs = [folder / f'log-{number}-{rank}.txt' for rank in range(case.ranks)]

    def run(self, kill: Optional[Kill] = None) -> Ending:
        """Starts it, kills it if asked to, and waits until all of it has ended."""
        processes = [self._start(rank, kill) for rank in range(self.case.ranks)]
        deadline = time.monotonic() + LONGEST
        if isinstance(kill, AtRandom):
            self._strike(processes, kill, deadline)
        codes, hangs, lasted = self._wait(processes, deadline)
        for process in processes:  # a loader's workers live on for some seconds
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        log = '\n'.join(path.read_text(errors='replace') for path in self.logs if path.exists())
        done = sorted(self.records[0].losses())
        killed = kill is not None and self._was_killed(kill, codes)
        return Ending(codes, killed, hangs, done[0] if done else None, done[-1] if done else None,
                      lasted, log)

    def _start(self, rank: int, kill: Optional[Kill]) -> int:
        case, size = self.case, self.case.ranks
        moment = (kill.moment, kill.call) if isinstance(kill, AtMoment) and kill.rank == rank else None
        meeting = self.folder / f'meeting-{self.number}' if size > 1 else None

        def task() -> None:
            cfg = case.config(self.folder / 'run', self.inputs)
            cfg.resume = self.number > 1
            train(cfg, self.records[rank], self.folder / f'final-{rank}.pt', (rank, size), meeting, moment)

        return fork(task, self.logs[rank])

    def _strike(self, processes: List[int], kill: AtRandom, deadline: float) -> None:
        """Waits for the moment, and kills."""
        record, victims = self.records[kill.rank or 0], processes if kill.rank is None else [processes[kill.rank]]
        while time.monotonic() < deadline:
            events = [line['event'] for line in record.events()]
            if BEGUN in events and events.count(ITERATION) >= kill.iterations:
                break
            if any(map(ended, victims)):
                return
            time.sleep(.002)
        time.sleep(kill.seconds)
        for process in victims:
            if not ended(process):
                os.kill(process, signal.SIGKILL)

    def _wait(self, processes: List[int], deadline: float) -> Tuple[List[int], List[int], float]:
        """Waits until all have ended. Returns their codes, those that hung, and how long the last was alone."""
        codes: List[Optional[int]] = [None] * len(processes)
        hangs: List[int] = []
        first: Optional[float] = None
        while None in codes:
            for rank, process in enumerate(processes):
                if codes[rank] is None and ended(process):
                    codes[rank] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                    first = first or time.monotonic()
                    deadline = min(deadline, first + SURVIVORS) if codes[rank] else deadline
            if time.monotonic() > deadline:
                hangs = [rank for rank, code in enumerate(codes) if code is None]
                for rank in hangs:
                    os.kill(processes[rank], signal.SIGKILL)
                deadline += LONGEST
            time.sleep(.005)
        return [code if code is not None else -1 for code in codes], hangs, time.monotonic() - (first or 0)

    def _was_killed(self, kill: Kill, codes: List[int]) -> bool:
        """Whether a process that ran was ended; of several that were to be, one may have been faster."""
        ranks = range(len(codes)) if kill.rank is None else [kill.rank]
        return any(self._ended_one(self.records[rank], kill, codes[rank]) for rank in ranks)

    @staticmethod
    def _ended_one(record: Record, kill: Kill, code: int) -> bool:
        if not record.has(BEGUN) or record.has(ENDED) or (isinstance(kill, AtMoment) and not record.has(MOMENT)):
            return False
        if isinstance(kill, AtMoment) and kill.moment.in_worker:
            return code == 1 and record.has(FAILED)  # the worker has said that it dies; the training has ended with an error
        return code == -signal.SIGKILL


def ended(process: int) -> bool:
    """Whether a child has ended; it is still to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def draw(case: Case, generator: random.Random, left: int, gap: float) -> AtRandom:
    """A kill at a random moment.

    Args:
        case: the case.
        generator: draws.
        left: how many iterations are still to be done.
        gap: how many seconds pass between two iterations, on average, the start included.
    """
    ranks = [*range(case.ranks), None] if case.ranks > 1 else [0]
    return AtRandom(generator.randrange(max(1, left)), generator.random() * gap, generator.choice(ranks))
