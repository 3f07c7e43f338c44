"""Time and memory of every loss beside plain L2 on the same features: forward and backward of the distiller alone.

usage: python benchmarks/losses.py [--rounds 7] [--repeats 5] [--threads 1] [NAME ...]

Features have the sizes of a training: 64 small images (CIFAR), a pyramid's level of 2 images of 800x1216, a head's map of 2
images of 512x1024 at stride 16. Each loss and L2, both with what adapter they take, are measured in turn, round by round, so
that what slows the machine down meets both. Memory is what a step adds at its peak, in a process of its own. CRD has the
memory of CIFAR-100 and the authors' 16384 negatives.
"""
import argparse
import os
import sys
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import torch
from measuring import device_name, in_fresh_process, in_turn, median_of, peak_memory, ratios, spread
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))

from loss_tasks import FEATURES, LOGITS, distiller  # noqa: E402
from zoo import IMAGE, sample  # noqa: E402

from mmkd_plugin.distiller import Batch, build_distiller  # noqa: E402
from mmkd_plugin.taps import TapInfo  # noqa: E402

Case = Tuple[str, str, str]
"""Task, loss and tap."""
MAPS = dict(mmpretrain=((64, 128, 8, 8), (64, 256, 8, 8)), mmdet=((2, 256, 100, 152), (2, 256, 100, 152)),
            mmseg=((2, 128, 32, 64), (2, 512, 32, 64)))
OTHERS = {'neck': ((64, 128), (64, 256)), 'head.fc': ((64, 100), (64, 100)),
          'decode_head.conv_seg': ((2, 19, 32, 64), (2, 19, 32, 64))}
CASES: List[Case] = sorted({*FEATURES, *LOGITS})


def shapes(case: Case) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    """Of the student's and of the teacher's feature."""
    scope, _, tap = case
    return OTHERS.get(tap, MAPS[scope])


def step(case: Case) -> Callable[[], None]:
    """Forward and backward of a distiller with one loss, on features that stay the same."""
    scope, _, tap = case
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.manual_seed(0)
    student, teacher = (torch.randn(shape, device=device) for shape in shapes(case))
    student.requires_grad_()
    loss = dict(loss=dict(type='crd', images=50000)) if case[1] == 'crd' else {}
    built = build_distiller('x', {**distiller(case[1], tap), **loss})
    built.prepare(*({tap: TapInfo(tap, feature.shape[1], tuple(feature.shape[2:]) or None, nn.BatchNorm2d(feature.shape[1]),
                                  0)} for feature in (student, teacher)))
    built.to(device).train()
    # The images are small, what is in them is where it would be.
    samples = [sample(scope, number)['data_samples'].to(device) for number in range(len(student))]
    batch = Batch(torch.zeros(len(student), 3, *IMAGE, device=device), samples, 0)

    def run() -> None:
        student.grad = None
        built.zero_grad(set_to_none=True)
        sum(built({tap: student}, {tap: teacher}, batch).values()).backward()
    return run


def repeated(run: Callable[[], None], times: int) -> Callable[[], None]:
    """Several steps as one."""
    def repeat() -> None:
        for _ in range(times):
            run()
    return repeat


def beside(case: Case) -> Case:
    """Plain L2 in the same place."""
    return case[0], 'l2', case[2]


def peaks(cases: List[Case], threads: int) -> Dict[Case, float]:
    """MiB that a step of each adds at its peak."""
    torch.set_num_threads(threads)
    found = {}
    for case in cases:
        run = step(case)
        run()
        found[case] = peak_memory(run, times=2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='losses by their short names; all by default')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--repeats', type=int, default=5, help='steps that are measured at once')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = [case for case in CASES if not args.names or case[1] in args.names]
    print(f'{args.rounds} rounds of {args.repeats} steps; torch {torch.__version__}, {device_name(args.threads)}\n')
    # What is freed goes back to the system at once, so that resident memory is memory in use.
    os.environ['MALLOC_MMAP_THRESHOLD_'] = os.environ['MALLOC_TRIM_THRESHOLD_'] = '65536'
    memory = in_fresh_process(peaks, list(dict.fromkeys([*cases, *map(beside, cases)])), args.threads)
    print('| loss | task, student -> teacher | ms | CPU ms | CPU time / L2\'s: median, range | peak MiB, L2\'s |')
    print('|---|---|---|---|---|---|')
    for case in cases:
        steps = dict(loss=step(case), l2=step(beside(case)))
        measured = in_turn({name: repeated(run, args.repeats) for name, run in steps.items()}, args.rounds)
        size = ' -> '.join('x'.join(map(str, shape)) for shape in shapes(case))
        wall, cpu = (median_of(measured['loss'], clock) / args.repeats * 1e3 for clock in ('wall', 'cpu'))
        share = spread(ratios(measured, ['loss'], ['l2'], 'cpu'))
        print(f'| `{case[1]}` | {case[0]}, {size} | {wall:.1f} | {cpu:.1f} | {share} | {memory[case]:.0f}, '
              f'{memory[beside(case)]:.0f} |', flush=True)


if __name__ == '__main__':
    main()
