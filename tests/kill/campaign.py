"""All kills of one case: planned, carried out, resumed until the run is finished, and compared with one left alone."""
import os
import random
import re
import shutil
import time
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Dict, List, Optional

from .attempts import AtMoment, AtRandom, Attempt, Ending, Kill, draw
from .cases import Case
from .compare import Disk, loss_differences, outcome_differences
from .records import Record
from .worker import fork, train

EQUAL, OTHER, UNEQUAL, NOT_RESUMABLE, UNSAID, HANGS, MISSED = (
    'equal', 'equal, from another checkpoint', 'UNEQUAL', 'NOT RESUMABLE', 'WITHOUT A WORD', 'HANGS', 'MISSED')
GOOD = (EQUAL, OTHER)
AT_ONCE = (1, 1, 2, 3)  # kills in a row, before a run is let finish
PATIENCE = 5  # how often in a row kills of one kind may come too late
SAYS = re.compile(r'resume: (from|passed over)')  # what the package prints about the checkpoint it takes


@dataclass
class Result:
    """What came of a case.

    Attributes:
        case, about: its name, and what is special about it.
        random, named, workers: how many kills ended a running process: at a random moment, at a named one, and how many
            ended a loader's worker.
        late: how many came too late and were made again.
        outcomes: by outcome, of how many runs; each run has one or several kills.
        seconds: how long it took.
    """
    case: str
    about: str
    random: int = 0
    named: int = 0
    workers: int = 0
    late: int = 0
    outcomes: Dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """How many kills counted."""
        return self.random + self.named + self.workers

    @property
    def good(self) -> bool:
        """Whether each run had a good end."""
        return all(outcome in GOOD for outcome in self.outcomes)

    def add(self, outcome: str) -> None:
        """Counts one run."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def count(self, kill: Kill) -> None:
        """Counts one kill."""
        if isinstance(kill, AtRandom):
            self.random += 1
        elif kill.moment.in_worker:
            self.workers += 1
        else:
            self.named += 1

    def data(self) -> Dict[str, Any]:
        """For a file."""
        return asdict(self)


def kind_of(kill: Kill) -> str:
    """What a kill is called if when it comes does not matter."""
    return kill.moment.name if isinstance(kill, AtMoment) else 'at random'


class Campaign:
    """The kills of one case.

    Args:
        case: the case.
        folder: everything is kept there.
        seed: decides the moments.
        limit: how many kills.
    """

    def __init__(self, case: Case, folder: Path, seed: int, limit: int):
        self.case, self.folder, self.limit = case, folder, limit
        self.inputs, self.reference = folder / 'inputs', folder / 'reference'
        self.generator = random.Random(f'{seed} {case.name}')
        self.result = Result(case.name, case.about)
        self.length, self.gap = 0, 0.0
        self.missed: Dict[str, int] = {}

    def run(self) -> Result:
        """Runs the reference, then kills until there have been enough."""
        started = time.monotonic()
        try:
            if self._prepare():
                self._kill_all()
            else:
                self.result.add(NOT_RESUMABLE)
        finally:
            self.result.seconds = time.monotonic() - started
        return self.result

    def _prepare(self) -> bool:
        self.reference.mkdir(parents=True)
        if self.case.needs is not None:
            needs, record, log = self.case.needs, Record(self.folder / 'needs.jsonl'), self.folder / 'needs.txt'
            process = fork(lambda: train(needs(self.inputs), record), log)
            if os.waitpid(process, 0)[1]:
                self._say(f'what it needs could not be made: {log}')
                return False
        attempt = Attempt(self.case, self.reference, self.inputs, 1)
        ending = attempt.run()
        if not ending.finished or not ending.last:
            self._say(f'the run that is left alone fails ({ending.error}): {self.reference}')
            return False
        events = attempt.records[0].events()
        self.length, self.gap = ending.last, (events[-1]['time'] - events[0]['time']) / ending.last
        return True

    def _kill_all(self) -> None:
        plan, number = self._plan(), 0
        while plan:
            number += 1
            kills = [plan.pop() for _ in range(min(len(plan), self.generator.choice(AT_ONCE)))]
            for kill in Trial(self, number).run(kills):
                self._again(kill, plan)

    def _plan(self) -> List[Kill]:
        """About two thirds at named moments, as far as there are; all moments before any comes again."""
        moments = list(self.case.moments)
        self.generator.shuffle(moments)
        named = [AtMoment(moment, self.generator.randint(1, moment.calls))
                 for moment in islice(cycle(moments), -(-self.limit * 2 // 3))]
        drawn = [draw(self.case, self.generator, self.length, self.gap) for _ in range(self.limit - len(named))]
        plan: List[Kill] = [*named, *drawn]
        self.generator.shuffle(plan)
        return plan

    def _again(self, kill: Kill, plan: List[Kill]) -> None:
        """Plans another kill in place of one that came too late, unless none of its kind ever comes."""
        self.result.late += 1
        kind = kind_of(kill)
        self.missed[kind] = self.missed.get(kind, 0) + 1
        if self.missed[kind] > PATIENCE:
            self._say(f'{MISSED}: {kill} never came')
            self.result.add(MISSED)
        else:
            plan.insert(0, AtMoment(kill.moment, 1) if isinstance(kill, AtMoment) else
                        draw(self.case, self.generator, self.length // 2, self.gap / 2))

    def _say(self, text: str) -> None:
        print(f'{self.case.name}: {text}', flush=True)


class Trial:
    """One run: killed once or several times in a row, resumed until it is finished, and compared.

    Args:
        campaign: which it belongs to.
        number: of the trial, from 1.
    """

    def __init__(self, campaign: Campaign, number: int):
        self.campaign, self.number = campaign, number
        self.folder = campaign.folder / f'trial-{number}'
        self.problems: List[str] = []
        self.outcome = EQUAL
        self._before: Optional[Disk] = None

    def run(self, kills: List[Kill]) -> List[Kill]:
        """Carries the kills out, one after the other. Returns those that came too late."""
        self.folder.mkdir()
        late: List[Kill] = []
        waiting: List[Optional[Kill]] = [*kills, None]
        attempt = 0
        while waiting:
            attempt += 1
            kill = self._reachable(waiting.pop(0))
            ending = self._attempt(attempt, kill)
            if self.outcome in (HANGS, NOT_RESUMABLE):
                late += [each for each in waiting if each is not None]
                break
            if kill is not None and not ending.killed:
                late += [kill, *(each for each in waiting if each is not None)]
                break
        self._conclude()
        return late

    def _reachable(self, kill: Optional[Kill]) -> Optional[Kill]:
        """A run that is resumed has fewer iterations, and fewer calls."""
        if self._before is None or kill is None:
            return kill
        if isinstance(kill, AtMoment):
            return AtMoment(kill.moment, 1)
        done = max(self._before.whole.values(), default=0)
        return AtRandom(min(kill.iterations, max(0, self.campaign.length - done - 1)), kill.seconds, kill.rank)

    def _attempt(self, number: int, kill: Optional[Kill]) -> Ending:
        campaign = self.campaign
        attempt = Attempt(campaign.case, self.folder, campaign.inputs, number)
        ending = attempt.run(kill)
        self._check_start(ending)
        for rank, record in enumerate(attempt.records):
            reference = Record(campaign.reference / f'record-1-{rank}.jsonl')
            self.problems += [f'rank {rank}, attempt {number}: {line}' for line in loss_differences(reference, record)]
        if ending.hangs:
            self.outcome = HANGS
            self.problems.append(f'attempt {number}: ranks {ending.hangs} had to be ended')
        elif kill is not None and ending.killed:
            campaign.result.count(kill)
            campaign.missed.pop(kind_of(kill), None)
            self._say(f'killed {kill}, iteration {ending.last or 0} of {campaign.length} finished, status {ending.codes}'
                      + (f', the other process after {ending.lasted:.1f} s' if campaign.case.ranks > 1 else ''))
        elif not ending.finished:
            self.outcome = NOT_RESUMABLE
            self.problems.append(f'attempt {number}: status {ending.codes}, {ending.error}')
        elif kill is not None:
            self._say(f'too late: {kill}')
        self._before = Disk.of(self.folder / 'run')
        return ending

    def _check_start(self, ending: Ending) -> None:
        """Whether a resumed run began where it should, and said so where that is not what ``last_checkpoint`` says."""
        before = self._before
        if before is None or (ending.first is None and not ending.finished):
            return
        start = self.campaign.length if ending.first is None else ending.first - 1
        source = next((name for name, iteration in before.whole.items() if iteration == start), None)
        newest = before.whole.get(before.newest or '', 0)
        self._say(f'goes on from {source or "the beginning"}, iteration {start} (whole: {list(before.whole)}, spoiled: '
                  f'{before.spoiled}, last_checkpoint: {before.pointer or None})')
        if start < newest and source != before.pointer:
            self.problems.append(f'went on from iteration {start} instead of {newest}')
        if not before.unusual(source):
            return
        said = [line for line in ending.log.splitlines() if SAYS.search(line) and (source or 'begin') in line]
        if not said:
            self.outcome = UNSAID
            self.problems.append(f'went on from {source or "the beginning"} without a word')
        elif self.outcome == EQUAL:
            self.outcome = OTHER
            self._say(f'it says: {said[-1].strip()[:300]}')

    def _conclude(self) -> None:
        if self.outcome not in (HANGS, NOT_RESUMABLE):
            self.problems += outcome_differences(self.campaign.reference, self.folder, self.campaign.case.ranks)
            if self.problems and self.outcome != UNSAID:
                self.outcome = UNEQUAL
        self.campaign.result.add(self.outcome)
        self._say(f'{self.outcome}' + ''.join(f'\n    {line}' for line in self.problems[:8]))
        if self.outcome in GOOD:
            shutil.rmtree(self.folder)
        else:
            self._say(f'kept in {self.folder}')

    def _say(self, text: str) -> None:
        print(f'{self.campaign.case.name} {self.number}: {text}', flush=True)
