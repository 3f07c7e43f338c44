"""How much a search of DistPro hangs on its seed: several searches of one thing, under several settings of the hook.

usage: python benchmarks/search_stability.py cifar100-20 --checkpoint TEACHER.pth [--seeds 3] [--only NAME ...]
           [--cfg-options KEY=VALUE ...]

For each setting: Kendall's tau between the seeds' rankings of the pathways by their mean weights (the mean over all pairs);
that between each seed's ranking and the one of the same seed under the first setting (the mean over the seeds); and of each
seed the entropy of the mean weights (1: all equal, 0: one has all), the pathway with most weight and its share, and how far
interleaved halves of the one search agree. Searches are kept in work_dirs/stability; call it again after an interruption.
"""
import argparse
import os
import statistics
from pathlib import Path

from mmkd_plugin.cli.search import Experiment
from mmkd_plugin.distpro import read_process
from mmkd_plugin.distpro.averaging import mean_weights
from mmkd_plugin.distpro.pathways import name_pathways
from mmkd_plugin.distpro.significance import kendall_tau, relative_entropy
from mmkd_plugin.utils.launch import one_line_errors

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    'cifar100-20': 'configs/classification/cifar100-20/distpro_resnet14x2-resnet8_8e_cifar100-20.py',
    'camvid': 'configs/segmentation/camvid/distpro_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'}
SETTINGS = {
    'default': [],
    'paper': ['custom_hooks.0.lr=0.05'],
    'interval 4': ['custom_hooks.0.interval=4'],
    'next batch': ['custom_hooks.0.validation=next_batch']}
"""By name: what is changed in the config of the search."""


def searched(name: str, args: argparse.Namespace) -> Path:
    """Runs what is missing of the searches under a setting; returns their folder."""
    folder = Path('work_dirs/stability') / args.data / name
    Experiment(CONFIGS[args.data], ROOT / 'tools/train.py', folder,
               [f'model.teacher.checkpoint={args.checkpoint}', *args.cfg_options], SETTINGS[name],
               seeds=args.seeds).run_search()
    return folder / 'search'


def table_row(name: str, folder: Path, first: Path, seeds: int) -> str:
    """What the searches of a setting have come to, beside those of the first one, as a row of a table in markdown."""
    tau = read_process(folder / 'process.json').stability['tau']
    processes = [read_process(folder / f'seed{seed}/process.json') for seed in range(seeds)]
    others = [mean_weights(read_process(first / f'seed{seed}/process.json')).tolist() for seed in range(seeds)]
    cells, taus = [], []
    for process, other in zip(processes, others):
        weights = mean_weights(process).tolist()
        taus.append(kendall_tau(weights, other))
        best = max(range(len(weights)), key=lambda member: weights[member])
        cells.append(f'{relative_entropy(weights):.2f}, {name_pathways(process.pathways)[best]} '
                     f'{100 * weights[best] / sum(weights):.0f} %, {process.stability["agreement"]:.2f}')
    return ' | '.join([f'| {name}', f'{tau:.2f}', f'{statistics.mean(taus):.2f}', *cells]) + ' |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', choices=list(CONFIGS))
    parser.add_argument('--checkpoint', type=Path, required=True, help="the teacher's")
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--only', nargs='+', choices=list(SETTINGS), default=list(SETTINGS), metavar='NAME', help='settings')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='overrides in the config, e.g. '
                        'train_dataloader.num_workers=0')
    args = parser.parse_args()
    args.checkpoint = args.checkpoint.resolve()
    os.chdir(ROOT)
    folders = {name: searched(name, args) for name in args.only}
    first = folders[args.only[0]]
    print('\n'.join([f'| setting | tau | tau to {args.only[0]} |' + ''.join(f' seed {seed} |' for seed in range(args.seeds)),
                     '|---' * (3 + args.seeds) + '|',
                     *(table_row(name, folder, first, args.seeds) for name, folder in folders.items())]))


if __name__ == '__main__':
    with one_line_errors():
        main()
