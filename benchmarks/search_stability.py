"""How much a search of DistPro hangs on its seed: several searches of one thing, under several settings of the hook.

usage: python benchmarks/search_stability.py cifar100-20 --checkpoint TEACHER.pth [--seeds 3] [--only NAME ...]
           [--cfg-options KEY=VALUE ...]

For each setting: Kendall's tau between the seeds' rankings of the pathways by their mean weights (the mean over all pairs),
and of each seed the entropy of the mean weights (1: all equal, 0: one has all), the pathway with most weight and its share,
and how far interleaved halves of the one search agree. Searches are kept in work_dirs/stability; call it again after an
interruption.
"""
import argparse
import os
from pathlib import Path

from mmkd_plugin.cli.search import Experiment
from mmkd_plugin.distpro import read_process
from mmkd_plugin.distpro.averaging import mean_weights
from mmkd_plugin.distpro.pathways import name_pathways
from mmkd_plugin.distpro.significance import relative_entropy
from mmkd_plugin.utils.launch import one_line_errors

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    'cifar100-20': 'configs/classification/cifar100-20/distpro_resnet14x2-resnet8_8e_cifar100-20.py',
    'camvid': 'configs/segmentation/camvid/distpro_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'}
SETTINGS = {
    'paper': ['custom_hooks.0.lr=0.05'],
    'default': []}
"""By name: what is changed in the config of the search."""


def searched(name: str, args: argparse.Namespace) -> Path:
    """Runs what is missing of the searches under a setting; returns their folder."""
    folder = Path('work_dirs/stability') / args.data / name
    Experiment(CONFIGS[args.data], ROOT / 'tools/train.py', folder,
               [f'model.teacher.checkpoint={args.checkpoint}', *args.cfg_options], SETTINGS[name],
               seeds=args.seeds).run_search()
    return folder / 'search'


def table_row(name: str, folder: Path, seeds: int) -> str:
    """What the searches of a setting have come to, as a row of a table in markdown."""
    tau = read_process(folder / 'process.json').stability['tau']
    cells = []
    for seed in range(seeds):
        process = read_process(folder / f'seed{seed}/process.json')
        weights = mean_weights(process).tolist()
        best = max(range(len(weights)), key=lambda member: weights[member])
        cells.append(f'{relative_entropy(weights):.2f}, {name_pathways(process.pathways)[best]} '
                     f'{100 * weights[best] / sum(weights):.0f} %, {process.stability["agreement"]:.2f}')
    return ' | '.join([f'| {name}', f'{tau:.2f}', *cells]) + ' |'


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
    rows = [table_row(name, searched(name, args), args.seeds) for name in args.only]
    print('\n'.join(['| setting | tau |' + ''.join(f' seed {seed} |' for seed in range(args.seeds)),
                     '|---' * (2 + args.seeds) + '|', *rows]))


if __name__ == '__main__':
    with one_line_errors():
        main()
