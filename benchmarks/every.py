"""What a step costs where distillation leaves iterations or images out.

usage: python benchmarks/every.py [PAIR] [--rounds 15] [--threads 2]

The pairs are those of overhead.py. A round is two iterations of each: the student's training step, the teacher's forward to
the deepest tap, and the distilled step as it is, with every=2 and with fraction=0.5. They are measured in turn, on a CPU by
the process's own time, and the ratios are those inside a round.
"""
import argparse
import statistics

import torch
from measuring import device_name, in_turn
from mmengine.logging import MessageHub
from overhead import PAIRS, steps

import mmkd_plugin  # noqa: F401 (registers everything)

WAYS = {'every step, all images': {}, 'every=2': dict(every=2), 'fraction=0.5': dict(fraction=0.5)}


def two_iterations(step):
    """The step in an even and in an odd iteration."""
    def both():
        for iteration in range(2):
            MessageHub.get_current_instance().update_info('iter', iteration)
            step()
    return both


def report(pair: dict, rounds: int) -> None:
    measured = {}
    for name, options in WAYS.items():
        found = steps({**pair, 'distiller': {**pair.get('distiller', {}), **options}})
        measured.setdefault('student', found['student'])
        measured.setdefault('teacher', found['teacher'])
        measured[name] = found['distilled']
    seconds = in_turn({name: two_iterations(step) for name, step in measured.items()}, rounds, own_time=True)
    networks = [student + teacher for student, teacher in zip(seconds['student'], seconds['teacher'])]
    print('| | ms a step | over (student + teacher) | range |\n|---|---|---|---|')
    for name, values in seconds.items():
        ratios = [value / both for value, both in zip(values, networks)]
        print(f'| {name} | {statistics.median(values) / 2 * 1e3:.1f} | {statistics.median(ratios):.3f} | '
              f'{min(ratios):.3f} to {max(ratios):.3f} |')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pair', nargs='?', choices=PAIRS, default='pspnet')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    pair = PAIRS[args.pair]
    print(f'{args.pair}: {pair["image"][0]}x{pair["image"][1]}, batch {pair["batch"]}; torch {torch.__version__}, '
          f'{device_name(args.threads)}\n')
    report(pair, args.rounds)


if __name__ == '__main__':
    main()
