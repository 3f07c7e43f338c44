"""What a training step of the CIFAR-100-20 configs takes in the formats that are chosen by measuring, and in the plain ones.

usage: python benchmarks/cells.py [CONFIG ...] [--rounds 20] [--threads 1]

For each config a whole step (teacher, student, losses, backward, optimiser) as it is, with the teacher's runtime that 'auto'
takes and the student in the format that mmkd.ChannelsLastHook would choose, and one with everything plain, in turn, round by
round; the ratio is the median over the rounds, on one thread of a CPU that of its own time. Weights and images are random.
What a search finds is not needed: pathways and blocks have equal weights where a config reads its file. Steps are those
after the calibration of `loss_scale='auto'`, which compares gradients and takes longer.
"""
import argparse
from functools import partial
from pathlib import Path
from typing import Callable, List, Tuple

import torch
from measuring import device_name, in_turn, median_of, ratios, spread
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from overhead import make_batch, without_downloads
from torch import nn

import mmkd_plugin
from mmkd_plugin.runtime import choose
from mmkd_plugin.runtime.memory_format import set_format
from mmkd_plugin.runtime.timing import Timings
from mmkd_plugin.utils.config import load_config

FOLDER = 'mmkd_plugin::classification/cifar100-20/'
PLACE = Path(mmkd_plugin.__file__).parents[1] / 'configs/classification/cifar100-20'
SUFFIX = '_8e_cifar100-20'
NETWORK = dict(image=(32, 32), batch=64)
PLAIN, AUTO = 'plain', 'auto'
CHOICE_ROUNDS = 8


def build(name: str, runtime: str) -> Tuple[nn.Module, Callable[[], None]]:
    """The model of a config, and a function that takes a training step with it."""
    torch.manual_seed(0)
    cfg = load_config(f'{FOLDER}{name}{SUFFIX}.py', 'benchmark')
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    model.get('student', model).setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    if 'teacher' in model:
        model['teacher'].update(allow_random_weights=True, checkpoint=None, runtime=runtime)
        for distiller in model['distillers'].values():
            distiller.pop('loss_scale', None)  # of the steps after its calibration
        without_searches(model['distillers'])
    without_downloads(model)
    built = MODELS.build(model).to('cuda' if torch.cuda.is_available() else 'cpu').train()
    if 'teacher' in model:
        built.attach_distillation()
        match(built)
    wrapper, data = build_optim_wrapper(built, cfg.optim_wrapper), make_batch(built, NETWORK)

    def step() -> None:
        wrapper.update_params(built.parse_losses(built(**data, mode='loss'))[0])

    return built, step


def without_searches(distillers: dict) -> None:
    """Equal weights where a file of a search is wanted."""
    for distiller in distillers.values():
        if 'levels' in distiller and distiller.get('mode', 'process') in ('process', 'final'):
            distiller.pop('process', None)
            distiller['mode'] = 'equal'
        if distiller['type'] == 'mmkd.FeatureAggregationDistiller':
            distiller.setdefault('aggregation', 'average')


def match(model: nn.Module) -> None:
    """A random matching in place of the one that MGD's update finds."""
    for module in model.distillation.modules():
        for stage in module.matched_stages() if hasattr(module, 'matched_stages') else ():
            chosen = torch.randperm(len(stage.margins))[:stage.assignment.numel()]
            stage.assignment.copy_(chosen.view_as(stage.assignment))
            stage.matched_flag.fill_(True)
            stage.matched = True


def report(name: str, rounds: int, threads: int) -> None:
    """Prints a row of the table."""
    (_, plain), (model, auto) = build(name, PLAIN), build(name, AUTO)
    clock = 'cpu' if threads == 1 and not torch.cuda.is_available() else 'wall'

    def formatted(channels_last: bool) -> None:
        set_format(model, channels_last)
        auto()

    tried = in_turn({PLAIN: partial(formatted, False), AUTO: partial(formatted, True)}, CHOICE_ROUNDS)
    chosen = choose(Timings({way: [getattr(times, clock) for times in of_way] for way, of_way in tried.items()}, 0.0), PLAIN)
    set_format(model, chosen == AUTO)
    measured = in_turn({PLAIN: plain, AUTO: auto}, rounds)
    distillation = getattr(model, 'distillation', None)
    teacher = '' if distillation is None else ', '.join(
        key for key, value in (distillation.teacher.runtime.choice or {}).items() if value) or PLAIN
    student = 'channels_last' if chosen == AUTO else PLAIN
    print(f'| {name} | {median_of(measured[PLAIN], clock) * 1e3:.1f} | {median_of(measured[AUTO], clock) * 1e3:.1f} | '
          f'{spread(ratios(measured, [AUTO], [PLAIN], clock))} | {student} | {teacher} |', flush=True)


def names_of_configs() -> List[str]:
    """The configs of the folder that are trained as a cell of its tables, without what all end with."""
    return sorted(path.stem.removesuffix(SUFFIX) for path in PLACE.glob(f'*{SUFFIX}.py'))


def main() -> None:
    names = names_of_configs()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help=f'all by default: {", ".join(names)}')
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    unknown = sorted(set(args.configs) - set(names))
    if unknown:
        parser.error(f'{unknown[0]} is none of {", ".join(names)}')
    torch.set_num_threads(args.threads)
    print(f'torch {torch.__version__}, {device_name(args.threads)}\n')
    print('| config | plain, ms | auto, ms | auto / plain | student | teacher |\n|---|---|---|---|---|---|')
    for name in args.configs or names:
        report(name, args.rounds, args.threads)


if __name__ == '__main__':
    main()
