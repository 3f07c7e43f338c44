"""What one matching update of MGD costs: ResNet-50 -> ResNet-18, 4 stages, 224x224.

usage: python benchmarks/matching_update.py [--rounds 5] [--threads 2]

The networks have random weights: their deepest channels are nearly alike, and an assignment problem full of near-ties takes
the solver longest. Random costs show the other end.
"""
import argparse

import torch
from measuring import device_name, in_turn, median_of
from overhead import build

from mmkd_plugin.distiller import Batch
from mmkd_plugin.mgd.matching import assign, cost_matrix

PAIR = dict(config='mmkd_plugin::classification/imagenet/mgd-amp_resnet34-resnet18_8xb32_in1k.py',
            teacher='mmpretrain::resnet/resnet50_8xb32_in1k.py', image=(224, 224), batch=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    print(f'ResNet-50 -> ResNet-18, 4 stages, 224x224; torch {torch.__version__}, {device_name(arguments.threads)}\n')
    model = build(PAIR).eval()
    distillation, distiller = model.distillation, model.distillation.mgd
    batch = Batch(torch.randn(PAIR['batch'], 3, *PAIR['image'], device=next(model.parameters()).device), None, 0)
    statistics = distiller.start_update()
    recorded = distillation.features(model, batch, ['mgd'])
    with torch.no_grad():
        measured = in_turn({'both forwards, per image': lambda: distillation.features(model, batch, ['mgd']),
                            'cost, per image': lambda: distiller.accumulate(statistics, *recorded, batch)}, arguments.rounds)
    rows = {name: median_of(times) / PAIR['batch'] for name, times in measured.items()}
    worst = cost_matrix(torch.randn(512, 2048, generator=torch.Generator().manual_seed(0)) * .1, 1)
    solved = {f'solving {stage.name} {tuple(of_stage.cost().shape)}': of_stage.cost()
              for stage, of_stage in zip(distiller.stages, statistics)}
    solved['solving (512, 2048), random costs'] = worst
    solving = in_turn({name: lambda matrix=matrix: assign(matrix) for name, matrix in solved.items()}, 1, warmup=0)
    rows.update({name: median_of(times) for name, times in solving.items()})
    print('| | ms |\n|---|---|')
    for name, seconds in rows.items():
        print(f'| {name} | {seconds * 1e3:.1f} |')


if __name__ == '__main__':
    main()
