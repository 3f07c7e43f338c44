"""Draws what a search of feature aggregations found, and how it came about.

Writes <name>_weights and <name>_course as PNG and SVG beside the file, or into --out.

usage: python tools/plot_aggregation.py work_dirs/SEARCH/aggregation.json [--out FOLDER]
"""
import argparse
from difflib import get_close_matches
from pathlib import Path

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.analysis.aggregation import draw_course, draw_weights
from mmkd_plugin.core import DistillationError
from mmkd_plugin.dfa.result import read_aggregation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path, help='aggregation.json of a search')
    parser.add_argument('--out', type=Path, help='folder for the pictures')
    args = parser.parse_args()
    if not args.file.is_file():
        near = get_close_matches(args.file.name, [path.name for path in args.file.parent.glob('*.json')], 1)
        parser.error(f'{args.file} is no file' + (f'. Did you mean {args.file.parent / near[0]}?' if near else ''))
    if args.out and args.out.is_file():
        parser.error(f'--out {args.out} is a file. Accepted: a folder.')
    content = read_aggregation(str(args.file), 'file')
    folder = args.out or args.file.parent
    folder.mkdir(parents=True, exist_ok=True)
    pictures = dict(weights=draw_weights, course=draw_course) if content['course'] else dict(weights=draw_weights)
    for kind, draw in pictures.items():
        for suffix in ('png', 'svg'):
            path = folder / f'{args.file.stem}_{kind}.{suffix}'
            draw(content, path)
            print(path)


if __name__ == '__main__':
    try:
        main()
    except DistillationError as error:
        raise SystemExit(f'error: {error}') from None
