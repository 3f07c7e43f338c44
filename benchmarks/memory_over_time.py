"""What a process holds after thousands of iterations of each method: memory, tensors, objects, handles and threads.

usage: python benchmarks/memory_over_time.py [--cases NAME ...] [--iterations 2000] [--json FILE]

Small networks of tests/long_runs.py on random images, one thread, each case in a process of its own, with matching updates
and logs on the way and four checkpoints. Every 100th iteration is looked at after a garbage collection. What counts is the
growth in the second half: by then everything that is made once is there. `LIMITS` says what 1,000 iterations may add; a
search may keep a record of each iteration, which is what it writes at the end. Cases named `leak-...` leak on purpose.
Exit code 1: a case that grows, or a leak that is not found.
"""
import argparse
import gc
import json
import multiprocessing
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import numpy as np
import torch
from measuring import device_name
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))

from long_runs import METHODS, Holdings, HoldingsHook, method_cfg, odd_loader  # noqa: E402

import mmkd_plugin  # noqa: E402, F401 (registers everything)

LIMITS = Holdings(rss=4., tensors=0, objects=100, handles=0, threads=0)
"""What 1,000 iterations may add: MiB of resident memory, and numbers of things."""
RECORDS = {'distpro-search': 1000}
"""Objects that a case may add beside that: the records of its result."""
Course = Dict[int, Holdings]


class Leak(Hook):
    """Keeps something of each iteration."""

    def __init__(self, kind: str):
        self._keep: Callable[[torch.Tensor], object] = dict(
            tensors=lambda loss: loss.detach().clone(), memory=lambda loss: np.ones(2 ** 10),
            handles=lambda loss: Path('/dev/null').open())[kind]  # noqa: SIM115 (that is the leak)
        self._kept: List[object] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        # mmengine logs numbers where they are not tensors
        self._kept.append(self._keep(torch.as_tensor(outputs['loss'])))


def leaks(kind: str) -> List[Hook]:
    return [Leak(kind)]


CASES: Dict[str, Tuple[str, str, int]] = {  # name -> method, scope, workers of the loader
    'student': ('student', 'mmpretrain', 0), **{name: (name, 'mmpretrain', 0) for name in METHODS if name != 'ifvd'},
    'student-segmentation': ('student', 'mmseg', 0), 'ifvd': ('ifvd', 'mmseg', 0),
    'mgd-2-workers': ('mgd', 'mmpretrain', 2), 'distpro-search-2-workers': ('distpro-search', 'mmpretrain', 2),
    **{f'leak-{kind}': ('student', 'mmpretrain', 0) for kind in ('tensors', 'memory', 'handles')}}


def course_of(name: str, iterations: int) -> Tuple[Course, float]:
    """What a case holds, by the iteration, and its milliseconds an iteration."""
    torch.set_num_threads(1)
    method, scope, workers = CASES[name]
    size = [(32, 32)]
    data, validation = odd_loader(scope, 64, sizes=size), odd_loader(scope, 6, sizes=size)
    for each in (data, validation):
        each.update(num_workers=workers, persistent_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        cfg = method_cfg(method, scope, Path(folder), iterations, data, validation, every=200)
        cfg.default_hooks.logger.interval = 50
        runner, hook = Runner.from_cfg(cfg), HoldingsHook(100)
        runner.register_hook(hook)
        for leak in leaks(name.split('-')[1]) if name.startswith('leak-') else ():
            runner.register_hook(leak)
        started = time.perf_counter()
        runner.train()
        return hook.course, (time.perf_counter() - started) / iterations * 1e3


def in_forked_process(name: str, iterations: int) -> Tuple[Course, float]:
    """:func:`course_of` in a process of its own, which finds everything imported."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        sender.send(course_of(name, iterations))

    process = context.Process(target=work)
    process.start()
    sender.close()
    try:
        found: Tuple[Course, float] = receiver.recv()
    except EOFError:
        raise SystemExit(f'{name} failed, see above') from None
    finally:
        process.join()
    return found


def growth(course: Course) -> Holdings:
    """What the second half of a run has added, for each 1,000 iterations."""
    last = max(course)
    middle = min(course, key=lambda iteration: abs(iteration - last / 2))
    return Holdings(*((after - before) * 1000 / (last - middle) for before, after in zip(course[middle], course[last])))


def too_much(name: str, found: Holdings) -> List[str]:
    """What has grown beyond its limit."""
    limits = LIMITS._replace(objects=LIMITS.objects + RECORDS.get(CASES[name][0], 0))
    return [field for field in Holdings._fields if getattr(found, field) > getattr(limits, field)]


def as_expected(name: str, grown: List[str]) -> bool:
    """Whether a case has kept within the limits, or a leak has been found as what it is."""
    expected = dict(zip(('leak-tensors', 'leak-memory', 'leak-handles'), ('tensors', 'rss', 'handles'))).get(name)
    return expected in grown if expected else not grown


def line(name: str, course: Course, milliseconds: float) -> str:
    """A case's line of the table."""
    places = sorted(course)
    shown = [course[min(places, key=lambda place: abs(place - share * places[-1]))] for share in (.1, .5, 1.)]
    found = growth(course)
    columns = [' / '.join(f'{getattr(each, field):.{1 if field == "rss" else 0}f}' for each in shown)
               + f' ({getattr(found, field):+.{2 if field == "rss" else 0}f})' for field in Holdings._fields]
    grown = too_much(name, found)
    return f'| {name} | {milliseconds:.1f} | {" | ".join(columns)} | {"grows: " + ", ".join(grown) if grown else "flat"} |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), metavar='NAME', help=', '.join(CASES))
    parser.add_argument('--iterations', type=int, default=2000)
    parser.add_argument('--json', type=Path, help='a file for all that was seen')
    args = parser.parse_args()
    for scope in ('mmseg', 'mmpretrain'):  # what they import is there before the first case is forked
        init_default_scope(scope)
        import_module(f'{scope}.models')
    gc.collect()
    gc.freeze()
    tenth, half = args.iterations // 10, args.iterations // 2
    print(f'{args.iterations} iterations, {device_name(1)}, torch {torch.__version__}\n\n| case | ms / iteration | '
          + ' | '.join(f'{field} at {tenth} / {half} / {args.iterations} (per 1,000)' for field in Holdings._fields)
          + ' | verdict |\n' + '|---' * (3 + len(Holdings._fields)) + '|', flush=True)
    seen, wrong = {}, []
    for name in args.cases:
        course, milliseconds = in_forked_process(name, args.iterations)
        seen[name] = {iteration: found._asdict() for iteration, found in course.items()}
        print(line(name, course, milliseconds), flush=True)
        wrong += [] if as_expected(name, too_much(name, growth(course))) else [name]
    if args.json:
        args.json.write_text(json.dumps(seen, indent=1))
    sys.exit(f'not as expected: {", ".join(wrong)}' if wrong else 0)


if __name__ == '__main__':
    main()
