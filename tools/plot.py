"""Draws what a search has found: `mmkd plot`.

usage: python tools/plot.py work_dirs/CONFIG/search/process.json [--out FOLDER] [--title TITLE]

Writes <file>_weights (and, for an aggregation, <file>_course) as PNG and SVG beside the file, or into FOLDER.
"""
from mmkd_plugin.cli.main import plot

if __name__ == '__main__':
    plot()
