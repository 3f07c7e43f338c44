#!/usr/bin/env python
"""Kills trainings, resumes them and compares them bit for bit with ones that were left alone; see docs/robustness.md.

The exit code is 1 if a run was unequal or could not be resumed.
"""
import argparse
import fnmatch
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

# A copy of this process does each run: it has to have one thread only, and everything imported.
for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ[name] = '1'
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet.models  # noqa: E402, F401
import mmpretrain.models  # noqa: E402, F401
import mmseg.models  # noqa: E402, F401
import torch  # noqa: E402

import mmkd_plugin  # noqa: E402, F401
from kill.campaign import GOOD, OTHER, Campaign, Result  # noqa: E402
from kill.cases import CASES, Case  # noqa: E402
from kill.worker import fork  # noqa: E402


def chosen(patterns: List[str]) -> List[Case]:
    """The cases whose names fit one of the patterns."""
    return [case for name, case in CASES.items()
            if any(fnmatch.fnmatch(name, pattern) and not case.planted or name == pattern for pattern in patterns)]


def carry_out(cases: List[Case], folder: Path, seed: int, limit: int, jobs: int) -> Dict[str, Result]:
    """Runs the campaigns of cases, so many at a time, each in a process of its own. Returns what came of each."""
    waiting, running, results = list(cases), {}, {}
    while waiting or running:
        while waiting and len(running) < jobs:
            case = waiting.pop(0)
            running[start(case, folder / case.name, seed, limit)] = case
        process, _ = os.wait()
        case = running.pop(process)
        file = folder / case.name / 'result.json'
        results[case.name] = Result(**json.loads(file.read_text())) if file.exists() else broken(case, folder / case.name)
    return {case.name: results[case.name] for case in cases}


def start(case: Case, folder: Path, seed: int, limit: int) -> int:
    """Starts the campaign of a case. Returns the id of its process."""
    folder.mkdir(parents=True)
    output = os.dup(1)

    def task() -> None:
        os.dup2(output, 1)
        result = Campaign(case, folder, seed, limit).run()
        (folder / 'result.json').write_text(json.dumps(result.data()))

    process = fork(task, folder / 'campaign.txt')
    os.close(output)
    return process


def broken(case: Case, folder: Path) -> Result:
    """The result of a campaign that has failed itself."""
    print(f'{case.name}: the campaign itself has failed\n{(folder / "campaign.txt").read_text()}', flush=True)
    return Result(case.name, case.about, outcomes={'THE SUITE FAILED': 1})


def table(results: Dict[str, Result]) -> str:
    """The results, in Markdown."""
    lines = ['| case | what is special | kills: random | named | of a loader worker | runs | equal | of these from another '
             'checkpoint, and said so | anything else |', '|---|---|--:|--:|--:|--:|--:|--:|---|']
    total = Result('all', '')
    for result in results.values():
        for outcome, count in result.outcomes.items():
            total.outcomes[outcome] = total.outcomes.get(outcome, 0) + count
        total.random, total.named, total.workers = (
            total.random + result.random, total.named + result.named, total.workers + result.workers)
    for result in (*results.values(), total):
        runs, good = sum(result.outcomes.values()), sum(result.outcomes.get(outcome, 0) for outcome in GOOD)
        others = ', '.join(f'{count} {outcome}' for outcome, count in result.outcomes.items() if outcome not in GOOD)
        lines.append(f'| {result.case} | {result.about} | {result.random} | {result.named} | {result.workers} | {runs} | '
                     f'{good} | {result.outcomes.get(OTHER, 0)} | {others or "0"} |')
    return '\n'.join(lines)


def main() -> int:
    """Reads the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=None, help='decides the moments; drawn and printed if not given')
    parser.add_argument('--limit', type=int, default=4, help='kills of each case')
    parser.add_argument('--case', nargs='+', default=['*'], help='names of cases, or patterns such as "mgd-*"')
    parser.add_argument('--jobs', type=int, default=2, help='cases at a time')
    parser.add_argument('--folder', type=Path, help='where everything is kept; by default a new one, removed if all is well')
    parser.add_argument('--json', type=Path, help='a file for the results')
    parser.add_argument('--list', action='store_true', help='prints the cases and their named moments, and nothing else')
    args = parser.parse_args()
    cases = chosen(args.case)
    if not cases:
        parser.error(f'no case fits {args.case}; there are {", ".join(CASES)}')
    if args.list:
        for case in cases:
            print(f'{case.name}: {case.about}; ' + '; '.join(moment.name for moment in case.moments))
        return 0
    torch.set_num_threads(1)
    seed = random.randrange(10 ** 6) if args.seed is None else args.seed
    folder, started = args.folder or Path(tempfile.mkdtemp(prefix='mmkd-kill-')), time.monotonic()
    tempfile.tempdir = str(folder)  # processes that are killed leave files there
    print(f'seed {seed}, {args.limit} kills of each of {len(cases)} cases, in {folder}', flush=True)
    results = carry_out(cases, folder, seed, args.limit, max(1, args.jobs))
    kills = sum(result.kills for result in results.values())
    print(f'\n{table(results)}\n\nseed {seed}: {kills} kills of running processes in {time.monotonic() - started:.0f} s; '
          f'{sum(result.late for result in results.values())} came too late and were made again')
    if args.json:
        args.json.write_text(json.dumps(dict(seed=seed, results=[result.data() for result in results.values()])))
    if all(result.good for result in results.values()):
        if args.folder is None:
            shutil.rmtree(folder)
        return 0
    print(f'what went wrong is kept in {folder}')
    return 1


if __name__ == '__main__':
    sys.exit(main())
