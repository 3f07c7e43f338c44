"""Fills an accuracy table: trains and tests the cells that are missing, then renders it as markdown.

usage: python benchmarks/accuracy.py benchmarks/tables/camvid.py [--jobs 2]

Results are kept in benchmarks/results/<table>.json as soon as they are there; call it again after an interruption, or when
the --minutes are over. `python benchmarks/render.py` brings the pages up to date that show the table.
"""
import argparse
import os
from pathlib import Path

from mmkd_plugin.report.accuracy import Table, TableRun
from mmkd_plugin.report.tables import markdown

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', type=Path)
    parser.add_argument('--jobs', type=int, default=1, help='cells that run at a time')
    parser.add_argument('--minutes', type=float, help='ends what runs after so long; call it again to go on')
    parser.add_argument('--name', help="of the JSON file and the folder of the cells (the table's)")
    parser.add_argument('--render', action='store_true', help='only render what is there')
    args = parser.parse_args()
    table = Table.from_file(args.table.resolve())
    os.chdir(ROOT)
    name = args.name or args.table.stem
    run = TableRun(table, Path('work_dirs/accuracy') / name, Path('benchmarks/results') / f'{name}.json', args.jobs,
                   args.minutes)
    if not args.render:
        run.run()
        if run.missing:
            print(f'{run.missing} cells are not finished; the same command goes on', flush=True)
    print(markdown(table, run.results))


if __name__ == '__main__':
    main()
