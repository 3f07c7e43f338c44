"""``python -m fuzz``: tries mutated inputs and judges what becomes of each; ends with code 1 where one is a defect."""
import argparse
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from .campaign import KINDS, SHARES, prepared, tried
from .judge import BAD, OUTCOMES


@dataclass
class Tally:
    """What has been tried so far."""
    counts: Dict[str, Counter] = field(default_factory=dict)
    longest: Tuple[float, str] = (0.0, '')
    largest: Tuple[float, str] = (0.0, '')
    bad: List[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str, report, where: str) -> None:
        self.counts.setdefault(kind, Counter())[outcome] += 1
        self.longest = max(self.longest, (report.seconds, where))
        self.largest = max(self.largest, (report.megabytes, where))

    def table(self) -> str:
        """The counts as a table in markdown."""
        used = [outcome for outcome in OUTCOMES if outcome in ('REFUSED', 'MM_ERROR', 'ACCEPTED')
                or any(counts[outcome] for counts in self.counts.values())]
        rows = [f'| kind | inputs | {" | ".join(used)} |', '|---' * (len(used) + 2) + '|']
        for kind, counts in self.counts.items():
            rows.append(f'| {kind} | {sum(counts.values())} | {" | ".join(str(counts[outcome]) for outcome in used)} |')
        return '\n'.join(rows)


def parse_args(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='fuzz', description=__doc__)
    parser.add_argument('--seed', type=int, default=1, help='of all inputs')
    parser.add_argument('--number', type=int, default=2000, help='how many inputs, shared out over the kinds')
    parser.add_argument('--kind', choices=list(KINDS), help='one kind only')
    parser.add_argument('--only', type=int, help='one index only, with everything that is known of it')
    parser.add_argument('--show', help='outcomes of which every input is printed, e.g. ACCEPTED')
    return parser.parse_args(arguments)


def indices(args: argparse.Namespace) -> List[Tuple[str, int]]:
    """Which inputs: kind and index of each."""
    kinds = [args.kind] if args.kind else list(KINDS)
    if args.only is not None:
        return [(kind, args.only) for kind in kinds]
    whole = sum(SHARES[kind] for kind in kinds)
    return [(kind, index) for kind in kinds for index in range(round(args.number * SHARES[kind] / whole))]


def main() -> int:
    args = parse_args()
    warnings.filterwarnings('ignore')
    folder = Path(tempfile.mkdtemp(prefix='mmkd-fuzz-'))
    tally, started = Tally(), time.monotonic()
    print(f'seed {args.seed}', flush=True)
    try:
        kinds = prepared({kind for kind, _ in indices(args)}, folder)
        for kind, index in indices(args):
            one, report, outcome, why = tried(kinds[kind], args.seed, index)
            where = f'--seed {args.seed} --kind {kind} --only {index}'
            tally.add(kind, outcome, report, where)
            if outcome in BAD:
                tally.bad.append(where)
            if outcome in BAD or args.only is not None or outcome in (args.show or '').split(','):
                said = f'{report.kind}: {report.error} {report.text[:1200]}'
                print(f'{outcome} {where}\n    {one}', *why, said, sep='\n    ')
                if outcome in ('TRACEBACK', 'CRASH', 'HANG') or args.only is not None:
                    print(*(f'        {line}' for line in report.tail), sep='\n')
                sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f'\nseed {args.seed}, {sum(sum(counts.values()) for counts in tally.counts.values())} inputs in '
          f'{time.monotonic() - started:.0f} s\n\n{tally.table()}\n')
    print(f'longest: {tally.longest[0]:.1f} s of the processor ({tally.longest[1]}); most memory: {tally.largest[0]:.0f} MB '
          f'({tally.largest[1]})')
    print(f'{len(tally.bad)} defects', *(f'PYTHONPATH=tests .venv/bin/python -m fuzz {where}' for where in tally.bad),
          sep='\n  ')
    return 1 if tally.bad else 0


if __name__ == '__main__':
    sys.exit(main())
