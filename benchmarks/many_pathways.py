"""DistPro with a thousand pathways: what a step costs, what the file holds, and what pruning saves.

usage: python benchmarks/many_pathways.py [--rounds 5] [--threads 1] [--length 2000]

Every block of the first three stages of a ResNet-34 with every other one, by every transform: 12 x 12 x 7 = 1,008 pathways.
Widths are tiny and images 16x16, so that what counts is how many there are. Steps are measured in turn, round by round, peak
memory in a process of its own, a search in a Runner. The file is that of a search of `--length` iterations.
"""
import argparse
import logging
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List

import torch
from measuring import device_name, in_fresh_process, in_turn, measure, median_of, peak_memory, print_table
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))

from long_runs import odd_loader  # noqa: E402
from zoo import distilled, run_cfg  # noqa: E402

from mmkd_plugin.distpro import Process, read_process  # noqa: E402
from mmkd_plugin.distpro.artefact import write_process  # noqa: E402
from mmkd_plugin.distpro.pathways import make_pathways  # noqa: E402
from mmkd_plugin.distpro.process import choose_every  # noqa: E402
from mmkd_plugin.distpro.transforms import PATHWAY_TRANSFORMS  # noqa: E402

LEVELS = [f'backbone.{stage}.{block}@end' for stage, blocks in (('layer1', 3), ('layer2', 4), ('layer3', 5))
          for block in range(blocks)]
TRANSFORMS = list(PATHWAY_TRANSFORMS.module_dict)
PATHWAYS = make_pathways(LEVELS, LEVELS, 'all', TRANSFORMS)
STEPS: Dict[str, int] = {'student alone': 0, '10 pathways live': 10, '100 live': 100, 'all live': len(PATHWAYS)}


def network(width: int) -> dict:
    return dict(
        type='ImageClassifier', _scope_='mmpretrain', neck=dict(type='GlobalAveragePooling'),
        backbone=dict(type='ResNet_CIFAR', depth=34, stem_channels=width, base_channels=width),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=8 * width, loss=dict(type='CrossEntropyLoss')))


def distilled_model(**options) -> dict:
    distiller = dict(type='mmkd.DistProDistiller', levels=LEVELS, connections='all', transforms=TRANSFORMS, **options)
    return {**distilled(network(4), network(8), distpro=distiller), 'image_shape': (3, 16, 16)}


def process(length: int, live: int) -> Process:
    """A process in which so many pathways are not pruned, with as many records as a search of that length writes."""
    every = choose_every(length, len(PATHWAYS))
    importance = torch.zeros(-(-(length - 1) // every) + 1, len(PATHWAYS), dtype=torch.float64)
    importance[:, :live] = 1 + torch.rand(len(importance), live, dtype=torch.float64)
    return Process(PATHWAYS, 'biased_softmax', 1., .5, importance, length, every)


def training_step(live: int, length: int, folder: Path) -> Callable[[], None]:
    """A step of the student, or of the distilled one while so many pathways live."""
    init_default_scope('mmpretrain')
    model = MODELS.build(network(4))
    if live:
        file = folder / f'{live}.json'
        write_process(file, process(length, live))
        model = MODELS.build(distilled_model(process=str(file)))
        MessageHub.get_current_instance().update_info('max_iters', length)
        model.attach_distillation()
    return step_of(model.train())


def step_of(model: nn.Module) -> Callable[[], None]:
    from mmpretrain.structures import DataSample
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=.9)
    images, samples = torch.randn(2, 3, 16, 16), [DataSample().set_gt_label(number) for number in range(2)]

    def step() -> None:
        loss = model.parse_losses(model(images, samples, mode='loss'))[0]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return step


def peak_of_step(live: int, length: int, threads: int) -> float:
    """MiB that steps add at most; the networks are built before."""
    torch.set_num_threads(threads)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        return peak_memory(training_step(live, length, Path(folder)))


def search_seconds(steps: int, folder: Path) -> float:
    """Seconds of an iteration of a search, in a Runner, with the log of every pathway's weight."""
    data = [odd_loader('mmpretrain', length, sizes=[(16, 16)]) for length in (2 * steps, 6)]
    cfg = run_cfg(distilled_model(mode='search'), folder, hooks=[dict(type='mmkd.ProcessSearchHook', dataloader=data[1])])
    cfg.train_dataloader = data[0]
    runner = Runner.from_cfg(cfg)
    runner.train()
    times, _ = runner.message_hub.get_scalar('train/time').data
    return statistics.median(times[1:])


def report_file(length: int, rounds: int, folder: Path) -> None:
    """Size of the file, and how long it takes to write, read and interpolate it."""
    file, whole = folder / 'process.json', process(length, len(PATHWAYS))
    write, read, weights = (median_of([measure(step) for _ in range(rounds)]) for step in (
        lambda: write_process(file, whole), lambda: read_process(file),
        lambda: whole.at(length // 3, length).softmax(0).tolist()))
    differs = (read_process(file).importance - whole.importance).abs().max()
    print(f'file of a search of {length} iterations: {len(whole.importance)} records, one every {whole.every} iterations, '
          f'{file.stat().st_size / 2 ** 20:.2f} MiB; written in {write * 1e3:.0f} ms, read and checked in '
          f'{read * 1e3:.0f} ms, the weights of an iteration in {weights * 1e3:.2f} ms; rounding {differs:.0e}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--length', type=int, default=2000, help='iterations of the search')
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # what is distilled is a long line here
    print(f'{len(PATHWAYS)} pathways, batch 2, 16x16; torch {torch.__version__}, {device_name(args.threads)}\n')
    with tempfile.TemporaryDirectory() as folder:
        steps: List[Callable[[], None]] = [training_step(live, args.length, Path(folder)) for live in STEPS.values()]
        measured = in_turn(dict(zip(STEPS, steps)), args.rounds)
        memory = {name: in_fresh_process(peak_of_step, live, args.length, args.threads) for name, live in STEPS.items()}
        print_table(measured, ['student alone'], 'student alone', memory)
        print(f'an iteration of a search, with its log: {search_seconds(args.rounds + 1, Path(folder)) * 1e3:.0f} ms\n')
        report_file(args.length, args.rounds, Path(folder))


if __name__ == '__main__':
    sys.exit(main())
