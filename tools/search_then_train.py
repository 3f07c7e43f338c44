"""Runs a search and then the training that uses what it has found, with `tools/train.py`.

usage: python tools/search_then_train.py SEARCH_CONFIG REPLAY_CONFIG [--search-options KEY=VALUE ...]
           [--replay-options KEY=VALUE ...] [--work-dir FOLDER] [--gpus N]

Call it again after an interruption: what is finished is not run again, what was begun goes on from its last checkpoint
(default_hooks.checkpoint.interval says how often one is saved).

The search writes its file into its work dir, FOLDER/<name of the search config>, where the replay config reads it. Where
FOLDER is not work_dirs, tell the replay: {search} in its options stands for that work dir,
--replay-options model.distillers.distpro.process={search}/process.json (DistPro) or
--replay-options model.distillers.dfa.aggregation={search}/aggregation.json (DFA).
"""
import argparse
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

from mmengine.config import Config

TRAIN = Path(__file__).with_name('train.py')
FINISHED = 'finished'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('search', help='config of the search')
    parser.add_argument('replay', help='config of the training')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs'), help='folder of the two work dirs')
    parser.add_argument('--search-options', nargs='+', default=[], help='overrides in the search config')
    parser.add_argument('--replay-options', nargs='+', default=[], help='overrides in the replay config')
    parser.add_argument('--gpus', type=int, default=1, help='processes on this machine, by torchrun where it is not 1')
    args = parser.parse_args()
    for config in (args.search, args.replay):
        if not Path(config).is_file():
            parser.error(f'config {config} not found')
    if args.work_dir != Path(parser.get_default('work_dir')) and not any('{search}' in item for item in args.replay_options):
        parser.error(f'--work-dir {args.work_dir}: the replay config reads what a search in work_dirs has written. Say '
                     'where this one writes: --replay-options model.distillers.distpro.process={search}/process.json for '
                     'DistPro, model.distillers.dfa.aggregation={search}/aggregation.json for DFA.')
    if not any(str(hook['type']).endswith('SearchHook') for hook in Config.fromfile(args.search).get('custom_hooks') or ()):
        parser.error(f'{args.search} searches nothing: it has no search hook in custom_hooks. The search comes first.')
    if Path(args.search).stem == Path(args.replay).stem:
        parser.error(f'both configs are called {Path(args.search).stem}: they would share a work dir')
    return args


def train(config: str, work_dir: Path, options: List[str], gpus: int) -> None:
    """One stage: trains, or goes on, unless it is finished."""
    marker, said = work_dir / FINISHED, ' '.join(options)
    if marker.exists():
        if marker.read_text() != said:
            raise SystemExit(f'{config} was finished before with the options {marker.read_text()!r}, and now has {said!r}. '
                             f'Remove {work_dir} to run it anew, or choose another --work-dir.')
        print(f'{config}: finished before, in {work_dir}', flush=True)
        return
    command = [sys.executable, str(TRAIN), config, '--work-dir', str(work_dir), '--resume']
    if gpus != 1:
        torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
        command = [command[0], *torchrun, *command[1:], '--launcher', 'pytorch']
    if options:
        command += ['--cfg-options', *options]
    with subprocess.Popen(command) as process:
        # Who ends this ends the training too: left alone it would go on, and share the folder with the next call's.
        default = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        code = process.wait()
        signal.signal(signal.SIGTERM, default)
    if code:
        raise SystemExit(f'{config} ended with code {code}. Call this again to go on.')
    marker.write_text(said)


def main() -> None:
    args = parse_args()
    search = args.work_dir / Path(args.search).stem
    train(args.search, search, args.search_options, args.gpus)
    options = [option.replace('{search}', str(search)) for option in args.replay_options]
    train(args.replay, args.work_dir / Path(args.replay).stem, options, args.gpus)


if __name__ == '__main__':
    main()
