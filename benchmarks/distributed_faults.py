"""What becomes of the ranks of a run in which one fails: whether all end, how soon, and what each says.

usage: python benchmarks/distributed_faults.py [--all] [--cases NAME ...] [--json FILE]

2 and 4 gloo ranks on small networks (tests/faults.py); the last rank (`_first`: rank 0) fails in its third batch. A case is
named `<ranks>-<method>-<fault>`; with one rank, a worker of a loader dies. Ranks wait 15 seconds for each other
(`env_cfg.dist_cfg.timeout`), and have to end within 60 of the first that ends. A rank that is stopped is told to go on once
the others have ended. Exit code 1: a case that is not as it should be.
"""
import argparse
import json
import re
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))

from faults import EXPECTED, TIMEOUT, Case, Rank, run_ranks, wrong  # noqa: E402

METHODS = ('mgd', 'distpro-search', 'distpro-replay', 'dfa-search', 'dfa-distill', 'logits')
WORKERS = [Case(1, method, fault) for fault in ('worker_exit', 'worker_kill')
           for method in ('features', 'mgd', 'distpro-search', 'dfa-search')]
DEFAULT = [  # every fault, every method, and whatever a method waits for
    *(Case(2, method, fault) for method in METHODS for fault in ('nan', 'kill')),
    Case(2, 'mgd', 'none'), Case(2, 'distpro-search', 'short_batch'), Case(2, 'dfa-search', 'fewer_batches'),
    Case(2, 'distpro-replay', 'exception'), Case(2, 'dfa-search', 'forward'), Case(2, 'distpro-search', 'stop'),
    Case(2, 'mgd', 'kill_first'), Case(4, 'mgd', 'exception'), Case(4, 'distpro-search', 'nan'),
    Case(4, 'dfa-search', 'kill'), Case(4, 'logits', 'stop'), Case(4, 'dfa-distill', 'fewer_batches'),
    Case(4, 'distpro-replay', 'short_batch'), *WORKERS]
ALL = [*(Case(ranks, method, fault) for ranks in (2, 4) for method in METHODS for fault in EXPECTED
         if not fault.startswith('worker')), *WORKERS]


def shortened(said: str) -> str:
    """The first sentence of what a rank said, without the place in gloo's source and the number of the port."""
    return re.sub(r'\[/\S+\.cc:\d+] | \[127\.0\.0\.1]:\d+', '', said).split('. ')[0].replace('|', '/')[:200]


def line(case: Case, ranks: List[Rank], problems: List[str]) -> str:
    """A case's line of the table."""
    mine = ranks[case.failing]
    others = list(dict.fromkeys(shortened(rank.said) for rank in ranks if rank is not mine))
    after = max(rank.seconds for rank in ranks)
    verdict = '; '.join(map(shortened, problems)) or 'yes'
    return (f'| {case.ranks} | {case.method} | {case.fault.replace("_", " ")} | {after:.1f} | {shortened(mine.said)} | '
            f'{"<br>".join(others)} | {verdict} |')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', nargs='+', type=Case.named, metavar='NAME', help=', '.join(case.name for case in ALL))
    parser.add_argument('--all', action='store_true', help=f'all {len(ALL)} cases instead of {len(DEFAULT)}')
    parser.add_argument('--json', type=Path, help='a file for all that was said')
    args = parser.parse_args()
    cases = args.cases or (ALL if args.all else DEFAULT)
    unknown = [case.name for case in cases if case not in ALL]
    if unknown:
        parser.error(f'unknown case {unknown[0]}; the known ones: {", ".join(case.name for case in ALL)}')
    import_module('mmpretrain.models')  # once, not in every rank
    print(f'{len(cases)} cases, ranks wait {TIMEOUT} s for each other\n\n| ranks | method | fault | all ended after s | the '
          'rank that fails | the others | as it should be |\n|---|---|---|---|---|---|---|', flush=True)
    started, said, failed = time.perf_counter(), {}, []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            ranks = run_ranks(case, Path(folder))
        problems = wrong(case, ranks)
        print(line(case, ranks, problems), flush=True)
        said[case.name] = [asdict(rank) for rank in ranks]
        failed += [case.name] if problems else []
    print(f'\n{len(cases) - len(failed)} of {len(cases)} as they should be, in {time.perf_counter() - started:.0f} s')
    if args.json:
        args.json.write_text(json.dumps(said, indent=1))
    sys.exit(f'not as they should be: {", ".join(failed)}' if failed else 0)


if __name__ == '__main__':
    main()
