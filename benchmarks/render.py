"""Brings the tables and pictures of results on the pages in docs/ up to date with benchmarks/results/*.json.

usage: python benchmarks/render.py            writes what has changed
       python benchmarks/render.py --check    writes nothing; fails where a page or a picture is not what the results say

A table stands where a page has the lines `<!-- results: NAME -->` and `<!-- end -->`. Pictures are compared byte by byte, so
the check wants matplotlib as requirements/constraints.txt has it.
"""
import argparse
from pathlib import Path

from mmkd_plugin.report.result_pages import out_of_date, write_result_pages

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='only say what is out of date')
    args = parser.parse_args()
    if args.check:
        stale = out_of_date(ROOT)
        raise SystemExit('\n'.join(['not what the results say (python benchmarks/render.py):', *stale]) if stale else 0)
    print('\n'.join(write_result_pages(ROOT)) or 'everything is up to date')


if __name__ == '__main__':
    main()
