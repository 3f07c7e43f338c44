"""Runs the search that a config describes under `search`, and, with --then-train, the training that uses what it finds.

usage: python tools/search.py CONFIG [--then-train] [--work-dir W] [--cfg-options KEY=VALUE ...]
           [--search-options KEY=VALUE ...] [--gpus N]
       python tools/search.py CONFIG --dump FILE [...]

The search works in W/search and writes its result there, where the training in W looks for it. Call it again after an
interruption: what is finished is not run again, what was begun goes on from its last checkpoint.
"""
import argparse
from pathlib import Path

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.cli.search import Experiment
from mmkd_plugin.utils.launch import one_line_errors


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the training; it describes its search under `search`')
    parser.add_argument('--then-train', action='store_true', help='go on with the training')
    parser.add_argument('--dump', type=Path, metavar='FILE', help="write the search's config to a file, for tools/train.py "
                        '(ours or the upstream one), and run nothing')
    parser.add_argument('--work-dir', type=Path, help='folder of the training; by default work_dirs/<config name>')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='overrides in the config, for both, e.g. '
                        'search.config.train_cfg.max_epochs=4')
    parser.add_argument('--search-options', nargs='+', default=[], help="overrides in the search's derived config")
    parser.add_argument('--gpus', type=positive, default=1, help='processes on this machine, by torchrun where it is not 1')
    args = parser.parse_args()
    if args.dump is not None and args.then_train:
        parser.error('--dump runs nothing: leave --then-train out')
    return args


def main() -> None:
    args = parse_args()
    experiment = Experiment(args.config, Path(__file__).with_name('train.py'), args.work_dir, args.cfg_options,
                            args.search_options, args.gpus)
    if args.dump is not None:
        experiment.dump(args.dump)
        print(f'wrote {args.dump}')
        return
    experiment.run_search()
    if args.then_train:
        experiment.run_training()


if __name__ == '__main__':
    with one_line_errors():
        main()
