"""What DFA costs: a search iteration against one of the second run, that against student and teacher, and memory.

usage: python benchmarks/dfa_search.py [PAIR] [--rounds 9] [--threads 2] [--unrolled]

A search iteration is a step of beta on one batch and a step of the weights on another, of each group in turn (they take
equal parts of a search). All are measured in turn, round by round, and compared by their medians, since shared machines are
noisy. The memory of a group is what a step of beta adds at its peak with all blocks, less what it adds with two, in fresh
processes. With `--unrolled` it is the step of beta that is measured: of first order, and of second with the exact mixed
derivative and with a finite difference.
"""
import argparse
import os
from typing import Callable, Dict, Optional

import torch
from measuring import device_name, in_fresh_process, in_turn, peak_memory, print_table, ratios, spread
from mmengine.registry import MODELS, init_default_scope
from overhead import make_batch, without_downloads
from torch import nn

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.dfa.bilevel import MixedDerivative, exact_mixed_derivative, finite_mixed_derivative, virtual_steps
from mmkd_plugin.dfa.hook import start_search
from mmkd_plugin.dfa.search import PathLosses
from mmkd_plugin.distiller import Batch
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.isolation import preserved_buffers, preserved_rng
from mmkd_plugin.utils.launch import replace_sync_bn

CLASSIFICATION = 'mmkd_plugin::classification/cifar100/'
CITYSCAPES = 'mmkd_plugin::segmentation/cityscapes/'
PAIRS = {
    'wrn': dict(config=f'{CLASSIFICATION}dfa_wrn-28-4-wrn-16-2_200e_cifar100.py', image=(32, 32), batch=64, group=0),
    'pspnet': dict(config=f'{CITYSCAPES}dfa_pspnet_r101-r18-d8_4xb2-80k_cityscapes-512x1024.py', image=(128, 256),
                   batch=2, group=2),
}
UNROLLED = {'first order': None, 'unrolled, exact': exact_mixed_derivative,
            'unrolled, finite difference': finite_mixed_derivative}


def build(pair: dict, mode: str, **changes) -> nn.Module:
    """The student of a pair, plain, in a search, or distilled with averages; with random weights."""
    cfg = load_config(pair['config'], 'benchmark')
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    if cfg.get('data_preprocessor') is not None:
        model['student'].setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    teacher = load_config(model['teacher']['config'], 'benchmark')._cfg_dict.to_dict()
    for node in (model['student'], teacher):
        without_downloads(node)
    for node in (model, teacher):
        replace_sync_bn(node)
    model['teacher'] = dict(config=teacher, allow_random_weights=True)
    pairs = model['distillers']['dfa']['pairs']
    options = dict(mode='search') if mode == 'search' else dict(mode='distill', aggregation='average', distance='normalized')
    model['distillers'] = dict(dfa=dict(type='mmkd.FeatureAggregationDistiller', pairs=pairs, **options, **changes))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    built = MODELS.build(model['student'] if mode == 'plain' else model).to(device).train()
    if mode != 'plain':
        built.attach_distillation()
    if mode == 'search':
        start_search(built.distillation.dfa, dict(type='Adam', lr=3e-3), 1e-3)
    return built


def training_step(model: nn.Module, data: dict) -> Callable[[], None]:
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=.9)

    def step():
        losses = model(**data, mode='loss')
        optimiser.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimiser.step()
    return step


def beta_step(model: nn.Module, data: dict, index: int, mixed: Optional[MixedDerivative] = None) -> Callable[[], None]:
    """A step of beta of one group, as AggregationSearchHook takes it; of second order with a way to the mixed derivative."""
    search = model.distillation.dfa.search
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=.9)

    def losses() -> PathLosses:
        found = model(**data, mode='loss')
        st = found.pop('dfa.loss_st')
        return PathLosses(ts=model.parse_losses(found)[0], st=st)

    def step():
        search.enter(index)
        with preserved_rng(), preserved_buffers(model):
            if mixed is not None:
                search.mixed = mixed
            gradient = search.gradient(losses, mixed and losses, lambda: virtual_steps(optimiser))
        search.step(gradient)
    return step


def steps(pair: dict) -> Dict[str, Callable[[], None]]:
    """What is measured, by name: each callable is one step."""
    plain, distilled, searched = (build(pair, mode) for mode in ('plain', 'distill', 'search'))
    data, validation = make_batch(plain, pair), make_batch(plain, pair)
    distillation = distilled.distillation
    found = dict(student=training_step(plain, data), distilled=training_step(distilled, data),
                 teacher=lambda: distillation.teacher_features(Batch(**data, iteration=0), ['dfa']))
    weights = training_step(searched, data)
    for index, group in enumerate(searched.distillation.dfa.groups):
        beta = beta_step(searched, validation, index)

        def both(beta=beta):
            beta()
            weights()

        found[f'search {group.name} ({len(group)} blocks)'] = both
    return found


def report_times(pair: dict, rounds: int) -> None:
    measured = in_turn(steps(pair), rounds, warmup=1)
    print_table(measured, ('student', 'teacher'), '(student + teacher)')
    searches = [name for name in measured if name.startswith('search')]
    for clock, label in (('wall', 'clock'), ('cpu', 'CPU time')):
        whole = [value / len(searches) for value in ratios(measured, searches, ['distilled'], clock)]
        print(f'search / distilled, by {label}: {spread(whole)}')


def peak_of_beta(pair: dict, threads: int, every: int) -> float:
    """MiB that a step of beta of the pair's group adds at most."""
    torch.set_num_threads(threads)
    model = build(pair, 'search', every_block=every)
    return peak_memory(beta_step(model, make_batch(model, pair), pair['group']), times=1)


def report_memory(pair: dict, threads: int) -> None:
    """A group's memory in the search: measured, and N maps of its shape."""
    model = build(pair, 'search')
    group = model.distillation.dfa.groups[pair['group']]
    count, info = len(group), model.distillation.teacher.taps.info[group.teacher[0]]
    stride = model.distillation_cfg['image_shape'][1] // info.size[0]
    area = pair['image'][0] // stride * (pair['image'][1] // stride)
    one = pair['batch'] * info.channels * area * 4 / 2 ** 20
    # What is freed goes back to the system at once, so that resident memory is memory in use.
    os.environ['MALLOC_MMAP_THRESHOLD_'] = os.environ['MALLOC_TRIM_THRESHOLD_'] = '65536'
    peaks = [in_fresh_process(peak_of_beta, pair, threads, every) for every in (1, count - 1)]
    print(f'\n{group.name}: a step of beta adds {peaks[0]:.0f} MiB with {count} blocks, {peaks[1]:.0f} with 2: '
          f'{peaks[0] - peaks[1]:.0f} for {count - 2} maps of {one:.1f} MiB, {one * (count - 2):.0f} predicted')


def unrolled_step(pair: dict, name: str) -> Callable[[], None]:
    model = build(pair, 'search')
    return beta_step(model, make_batch(model, pair), pair['group'], UNROLLED[name])


def peak_of_unrolled(pair: dict, threads: int, name: str) -> float:
    """MiB that a step of beta of the pair's group adds at most."""
    torch.set_num_threads(threads)
    return peak_memory(unrolled_step(pair, name), times=1)


def report_unrolled(pair: dict, rounds: int, threads: int) -> None:
    """Time and memory of a step of beta of one group, of first and of second order."""
    measured = in_turn({name: unrolled_step(pair, name) for name in UNROLLED}, rounds, warmup=1)
    os.environ['MALLOC_MMAP_THRESHOLD_'] = os.environ['MALLOC_TRIM_THRESHOLD_'] = '65536'
    print_table(measured, ['first order'], 'first order',
                {name: in_fresh_process(peak_of_unrolled, pair, threads, name) for name in measured})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pair', nargs='?', choices=PAIRS, default='wrn')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--unrolled', action='store_true', help='a step of beta of first and of second order, instead')
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    pair = PAIRS[args.pair]
    print(f'{args.pair}: {pair["image"][0]}x{pair["image"][1]}, batch {pair["batch"]}; torch {torch.__version__}, '
          f'{device_name(args.threads)}\n')
    if args.unrolled:
        report_unrolled(pair, args.rounds, args.threads)
        return
    report_times(pair, args.rounds)
    report_memory(pair, args.threads)


if __name__ == '__main__':
    main()
