"""Draws what a search has found: `mmkd plot`.

usage: python tools/plot.py work_dirs/CONFIG/search/process.json [--out FOLDER] [--title TITLE]

Writes <file>_weights (and, for an aggregation, <file>_course) as PNG and SVG beside the file, or into FOLDER.
"""
import sys

from mmkd_plugin.cli.main import mmkd

if __name__ == '__main__':
    mmkd(['plot', *sys.argv[1:]], prog_name='mmkd')
