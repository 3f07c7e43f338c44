"""Draws what a search has found: the weights of a process over time, or of an aggregation over depth and over the search.

usage: python tools/plot.py work_dirs/CONFIG/search/process.json [--out FOLDER] [--title TITLE]

Writes <file>_weights (and, for an aggregation, <file>_course) as PNG and SVG beside the file, or into FOLDER.
"""
import argparse
from pathlib import Path

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.report.plot import draw
from mmkd_plugin.utils.launch import make_work_dir, one_line_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path, help='process.json or aggregation.json of a search')
    parser.add_argument('--out', type=Path, help='folder for the pictures, by default that of the file')
    parser.add_argument('--title', default='', help='above the panels of a process')
    args = parser.parse_args()
    if args.out is not None:
        make_work_dir(args.out, '--out')
    for path in draw(args.file, args.out, args.title):
        print(path)


if __name__ == '__main__':
    with one_line_errors():
        main()
