"""What a search and a replay of DistPro cost, as ratios inside one run.

usage: python benchmarks/distpro_search.py [--rounds 15] [--threads 2] [--batch 64] [--hypergradient exact]
       [--mode held_out next_batch]

WRN-40-2 -> WRN-16-2 on 32x32 images, 4 levels, 10 pathways, ``conv3_relu``. Search iterations (judged by held-out
images, or by the next training batch) and a distillation step of the same model are measured in turn, round by round, and
compared within each round; peak memory comes from a fresh process for each. Then the distillation step with fewer and fewer
live pathways. On a CPU the time is that of the process, which others on the machine hardly change.
"""
import argparse
import statistics
from typing import Callable, Dict

import torch
from measuring import device_name, in_fresh_process, in_turn, peak_memory
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.distpro.search import ProcessSearch

LEVELS = ['backbone.norm1@preact', *(f'backbone.layer{stage}@preact' for stage in (1, 2, 3))]
PATHWAYS = 10
MODES = ('held_out', 'next_batch')


def network(depth: int) -> dict:
    """A wide residual network for CIFAR-100."""
    return dict(
        type='ImageClassifier', backbone=dict(type='mmkd.WideResNet', depth=depth, widen_factor=2),
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]),
        neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=100, in_channels=128))


def build(live: int = PATHWAYS, searched: bool = True) -> nn.Module:
    """The distilled student; ``live`` of its pathways are above tau where it is not searched."""
    init_default_scope('mmpretrain')
    mode = dict(mode='search') if searched else dict(mode='constant', values=[1.0] * live + [0.0] * (PATHWAYS - live))
    model = MODELS.build(dict(
        type='mmkd.DistilledModel', student=network(16), image_shape=(3, 32, 32),
        teacher=dict(config=dict(model=network(40), default_scope='mmpretrain'), allow_random_weights=True),
        distillers=dict(distpro=dict(type='mmkd.DistProDistiller', levels=LEVELS, **mode))))
    model = model.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    model.attach_distillation()
    return model


def make_batch(size: int) -> dict:
    """Random images and labels, as a loader gives them."""
    from mmpretrain.structures import DataSample
    return dict(inputs=[torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for _ in range(size)],
                data_samples=[DataSample().set_gt_label(number % 100) for number in range(size)])


def distillation_step(model: nn.Module, batch: dict, optimiser: torch.optim.Optimizer) -> None:
    """What the train loop does with a batch."""
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    model.parse_losses(losses)[0].backward()
    optimiser.step()
    optimiser.zero_grad()


def steps(batch_size: int, hypergradient: str = 'exact') -> Dict[str, Callable[[], None]]:
    """A distillation step and search iterations of the same model, by mode."""
    model, train, val = build(), make_batch(batch_size), make_batch(batch_size)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=.9, nesterov=True, weight_decay=5e-4)
    distiller = model.distillation.distpro
    distiller.search = search = ProcessSearch(model, distiller, .05, (.5, .999), hypergradient)

    def searched(judged_by_next: bool):
        distiller.keeps_step, distiller.keeps_gradients = True, hypergradient == 'exact'
        distiller.see_task_loss = search.judge if judged_by_next and search.waits else None
        before = search.snapshot(optimiser)
        distillation_step(model, train, optimiser)
        return before, distiller.take_step()

    def held_out():
        search.step(*searched(False), val)

    def next_batch():
        search.wait(*searched(True))

    def plain():
        distiller.keeps_step = distiller.keeps_gradients = False
        distiller.see_task_loss = None
        distillation_step(model, train, optimiser)

    return dict(distillation=plain, held_out=held_out, next_batch=next_batch)


def peak_of_step(name: str, batch_size: int, hypergradient: str, threads: int) -> float:
    """MiB that steps of this name add at most; both networks are built before."""
    torch.set_num_threads(threads)
    return peak_memory(steps(batch_size, hypergradient)[name])


def report_search(arguments: argparse.Namespace) -> None:
    callables = steps(arguments.batch, arguments.hypergradient)
    names = ['distillation', *arguments.mode]
    measured = in_turn({name: callables[name] for name in names}, arguments.rounds, own_time=True)
    memory = {name: in_fresh_process(peak_of_step, name, arguments.batch, arguments.hypergradient, arguments.threads)
              for name in names}
    print('| iteration | median ms | of a distillation step, median of the rounds (least to most) | peak MiB beyond the '
          'built networks | of a distillation step |\n|---|---|---|---|---|')
    for name in names:
        ratios = [one / plain for plain, one in zip(measured['distillation'], measured[name])]
        print(f'| {name} | {statistics.median(measured[name]) * 1e3:.1f} | {statistics.median(ratios):.2f} '
              f'({min(ratios):.2f} to {max(ratios):.2f}) | {memory[name]:.0f} | '
              f'{memory[name] / memory["distillation"]:.2f} |')
    print()


def report_pruning(arguments: argparse.Namespace) -> None:
    batch, callables = make_batch(arguments.batch), {}
    for live in (10, 7, 4, 1):
        model = build(live, searched=False)
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
        callables[live] = lambda model=model, optimiser=optimiser: distillation_step(model, batch, optimiser)
    measured = in_turn(callables, arguments.rounds, own_time=True)
    whole = statistics.median(measured[PATHWAYS])
    print('| live pathways | median ms | of all |\n|---|---|---|')
    for live, seconds in measured.items():
        print(f'| {live} | {statistics.median(seconds) * 1e3:.1f} | {statistics.median(seconds) / whole:.2f} |')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--hypergradient', default='exact', choices=['exact', 'finite_difference'])
    parser.add_argument('--mode', default=list(MODES), nargs='+', choices=MODES)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    print(f'WRN-40-2 -> WRN-16-2, {PATHWAYS} pathways, batch {arguments.batch}, {arguments.hypergradient}; torch '
          f'{torch.__version__}, {device_name(arguments.threads)}\n')
    report_search(arguments)
    report_pruning(arguments)


if __name__ == '__main__':
    main()
