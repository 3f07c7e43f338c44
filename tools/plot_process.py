"""Draws a process that a search has written: the weights over time, a panel per teacher level.

usage: python tools/plot_process.py work_dirs/search/process.json [--out process] [--title TITLE]

Writes PNG and SVG.
"""
import argparse
from pathlib import Path

from mmkd_plugin.analysis.processes import draw_process
from mmkd_plugin.core import DistillationError
from mmkd_plugin.distpro import read_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('process', type=Path, help='process.json')
    parser.add_argument('--out', type=Path, help='what the pictures are called, without suffix; by default beside the file')
    parser.add_argument('--title', default='', help='above the panels')
    args = parser.parse_args()
    out = args.out or args.process
    out = out.with_suffix('') if out.suffix in ('.json', '.png', '.svg') else out
    paths = [out.with_name(f'{out.name}{suffix}') for suffix in ('.png', '.svg')]
    draw_process(read_process(str(args.process), 'process'), paths, args.title)
    print(f'wrote {", ".join(map(str, paths))}')


if __name__ == '__main__':
    try:
        main()
    except DistillationError as error:
        raise SystemExit(f'error: {error}') from None
