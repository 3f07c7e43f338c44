"""What a step, a search and a replay of DistPro cost, as ratios inside one run.

usage: python benchmarks/distpro_search.py [--rounds 15] [--threads 2] [--batch 64] [--hypergradient exact] [--memory]
       python benchmarks/distpro_search.py --pool MEMBER [MEMBER ...]
       python benchmarks/distpro_search.py --pruning

WRN-40-2 -> WRN-16-2 on 32x32 images, 4 levels, 10 pathways, ``conv3_relu``. The plain student's step, the plain teacher's
forward to the deepest tap, a distillation step and search iterations (judged by held-out images, or by the next training
batch), plain and in the formats that measuring chooses, are measured in turn, round by round; peak memory comes from a fresh
process for each (what the choice of formats needs is in it). With them the search loop of the authors' release *as
described*, written anew on the same networks: per iteration four forwards of both networks (the step, the unrolled step, two
for the finite difference), a validation pass, and three backwards. ``--pool``: a process over the 10 pathways and losses of
other distillers (mgd, kd, dist, l2), without the release's loop. ``--pruning``: a replay with fewer and fewer live pathways,
instead.
"""
import argparse
from functools import partial
from typing import Any, Callable, Dict, List, Sequence

import torch
from measuring import device_name, in_fresh_process, in_turn, peak_memory, print_memory, print_table, ratios, spread
from mmengine.registry import MODELS, init_default_scope
from overhead import choosing_format, match
from torch import Tensor, nn

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.distpro.search import ProcessSearch

LEVELS = ['backbone.norm1@preact', *(f'backbone.layer{stage}@preact' for stage in (1, 2, 3))]
PATHWAYS = 10
OTHERS = dict(
    mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=LEVELS[1:], reduction='mean'),
    kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss=dict(type='kl', standardise=True)),
    dist=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss='dist'),
    l2=dict(type='mmkd.FeatureDistiller', pairs=LEVELS[3:]))
TOGETHER = ('student', 'teacher')
FORMATS = 'formats by measuring'
SEARCHES = ('search, held-out images', 'search, next batch')
KINDS = ('distillation', *SEARCHES)
RELEASE = "search, the release's loop as described"
ROWS = (*TOGETHER, *KINDS, RELEASE, *(f'{kind}, {FORMATS}' for kind in KINDS))
Step = Callable[[], None]


def network(depth: int) -> dict:
    """A wide residual network for CIFAR-100."""
    return dict(
        type='ImageClassifier', backbone=dict(type='mmkd.WideResNet', depth=depth, widen_factor=2),
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]),
        neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=100, in_channels=128))


def build(live: int = PATHWAYS, searched: bool = True, pool: Sequence[str] = (), **teacher: Any) -> nn.Module:
    """The distilled student; ``live`` of its pathways are above tau where it is not searched."""
    init_default_scope('mmpretrain')
    values = [1.0] * len(pool) + [1.0] * live + [0.0] * (PATHWAYS - live)
    mode: Dict[str, Any] = dict(mode='search') if searched else dict(mode='constant', values=values)
    if pool:
        mode.update(members=list(pool), scales=None)  # steps after the calibration, which are most of a run
    model = MODELS.build(dict(
        type='mmkd.DistilledModel', student=network(16), image_shape=(3, 32, 32),
        teacher=dict(config=dict(model=network(40), default_scope='mmpretrain'), allow_random_weights=True, **teacher),
        distillers=dict(**{name: OTHERS[name] for name in pool},
                        distpro=dict(type='mmkd.DistProDistiller', levels=LEVELS, **mode))))
    model = model.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    model.attach_distillation()
    if 'mgd' in pool:
        match(model.distillation.mgd)
    return model


def make_batch(size: int) -> dict:
    """Random images and labels, as a loader gives them."""
    from mmpretrain.structures import DataSample
    return dict(inputs=[torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for _ in range(size)],
                data_samples=[DataSample().set_gt_label(number % 100) for number in range(size)])


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=.9, nesterov=True, weight_decay=5e-4)


def training_step(model: nn.Module, batch: dict, optimiser: torch.optim.Optimizer) -> None:
    """What the train loop does with a batch."""
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    model.parse_losses(losses)[0].backward()
    optimiser.step()
    optimiser.zero_grad()


def distilled_step(kind: str, batch_size: int, hypergradient: str, pool: Sequence[str], measured: bool) -> Step:
    """A distillation step or a search iteration, on a model of its own."""
    model = build(searched=kind != 'distillation', pool=pool, **dict(runtime='auto') if measured else {})
    train, val, optimiser = make_batch(batch_size), make_batch(batch_size), optimiser_of(model)
    distiller = model.distillation.distpro
    if kind != 'distillation':
        distiller.search = search = ProcessSearch(model, distiller, .05, (.5, .999), hypergradient)

    def formatted(step: Step) -> Step:
        return step if not measured else choosing_format(step, model, model.data_preprocessor(train, True))

    if kind == 'distillation':
        return formatted(partial(training_step, model, train, optimiser))

    def iteration() -> None:
        distiller.keeps_step, distiller.keeps_gradients = True, hypergradient == 'exact'
        distiller.see_task_loss = search.judge if kind == SEARCHES[1] and search.waits else None
        before = search.snapshot(optimiser)
        training_step(model, train, optimiser)
        kept = distiller.take_step()
        if kind == SEARCHES[1]:
            search.wait(before, kept)
        else:
            search.step(before, kept, val)
    return formatted(iteration)


def release_iteration(batch_size: int) -> Step:
    """An iteration of the release's search loop, as described; what it does to the importance itself costs nothing."""
    model = build(searched=False)
    train, val, optimiser = make_batch(batch_size), make_batch(batch_size), optimiser_of(model)
    student = [parameter for name, parameter in model.named_parameters() if not name.startswith('distillation.')]

    def loss_of(batch: dict) -> Tensor:
        return model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))[0]

    def move(direction: List[Tensor], by: float) -> None:
        with torch.no_grad():
            torch._foreach_add_(student, direction, alpha=by)

    def iteration() -> None:
        unrolled = torch.autograd.grad(loss_of(train), student)
        move(unrolled, -1e-4)
        with model.distillation.suspended():
            v = torch.autograd.grad(loss_of(val), student)
        move(unrolled, 1e-4)
        radius = .01 / float(torch.linalg.vector_norm(torch.stack([part.norm() for part in v])))
        for step in (radius, -2 * radius):
            move(v, step)
            loss_of(train)
        move(v, radius)
        training_step(model, train, optimiser)
    return iteration


def make_step(name: str, batch_size: int, hypergradient: str, pool: Sequence[str]) -> Step:
    """The callable of a row, on networks of its own."""
    torch.manual_seed(0)
    if name == 'student':
        model = MODELS.build(network(16)).to('cuda' if torch.cuda.is_available() else 'cpu').train()
        batch, optimiser = make_batch(batch_size), optimiser_of(model)
        return lambda: training_step(model, batch, optimiser)
    if name == 'teacher':
        model = build(pool=pool)
        images = model.data_preprocessor(make_batch(batch_size), True)['inputs']
        return lambda: model.distillation.teacher.features(images)
    if name == RELEASE:
        return release_iteration(batch_size)
    measured = name.endswith(FORMATS)
    return distilled_step(name.removesuffix(f', {FORMATS}'), batch_size, hypergradient, pool, measured)


def peak_of_step(name: str, batch_size: int, hypergradient: str, pool: Sequence[str], threads: int) -> float:
    """MiB that steps of this row add at most; its networks are built before."""
    torch.set_num_threads(threads)
    init_default_scope('mmpretrain')
    return peak_memory(make_step(name, batch_size, hypergradient, pool))


def report_steps(arguments: argparse.Namespace) -> None:
    given = (arguments.batch, arguments.hypergradient, arguments.pool)
    rows = [name for name in ROWS if not arguments.pool or name != RELEASE]
    memory = {name: in_fresh_process(peak_of_step, name, *given, arguments.threads) for name in rows}
    if arguments.memory:
        print_memory(memory)
        return
    measured = in_turn({name: make_step(name, *given) for name in rows}, arguments.rounds)
    print_table(measured, TOGETHER, '(student + teacher)', memory)
    print('| search iteration | ms / distillation step in the same formats | the same in CPU time | peak memory |')
    print('|---|---|---|---|')
    for name in rows:
        if name.startswith('search'):
            step = f'distillation, {FORMATS}' if name.endswith(FORMATS) else 'distillation'
            shares = [spread(ratios(measured, [name], [step], clock)) for clock in ('wall', 'cpu')]
            print(f'| {name} | {shares[0]} | {shares[1]} | {memory[name] / memory[step]:.2f} |')


def report_pruning(arguments: argparse.Namespace) -> None:
    batch = make_batch(arguments.batch)
    callables: Dict[str, Step] = {}
    for live in (10, 7, 4, 1):
        model = build(live, searched=False)
        optimiser = optimiser_of(model)
        callables[f'{live} pathways live'] = lambda model=model, optimiser=optimiser: training_step(model, batch, optimiser)
    measured = in_turn(callables, arguments.rounds)
    print_table(measured, [f'{PATHWAYS} pathways live'], 'all pathways live')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--hypergradient', default='exact', choices=['exact', 'finite_difference'])
    parser.add_argument('--memory', action='store_true', help='peak memory only, no times')
    parser.add_argument('--pool', nargs='+', choices=list(OTHERS), default=[], metavar='MEMBER',
                        help=f'losses weighed beside the pathways: {", ".join(OTHERS)}')
    parser.add_argument('--pruning', action='store_true', help='a replay with fewer and fewer live pathways, instead')
    arguments = parser.parse_args()
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    weighed = ', '.join([*arguments.pool, f'{PATHWAYS} pathways'])
    print(f'WRN-40-2 -> WRN-16-2, {weighed}, batch {arguments.batch}, {arguments.hypergradient}; torch {torch.__version__}, '
          f'{device_name(arguments.threads)}\n')
    report = report_pruning if arguments.pruning else report_steps
    report(arguments)


if __name__ == '__main__':
    main()
