"""Runs the search that a config describes: `mmkd search`.

usage: python tools/search.py CONFIG [--then-train] [--work-dir W] [--cfg-options KEY=VALUE ...]
           [--search-options KEY=VALUE ...] [--gpus N] [--seeds N]
       python tools/search.py CONFIG --dump FILE [...]
"""
from pathlib import Path

from mmkd_plugin.cli.main import flags_of_search
from mmkd_plugin.cli.search import search
from mmkd_plugin.utils.launch import one_line_errors

if __name__ == '__main__':
    with one_line_errors():
        search(flags_of_search().parse_args(), Path(__file__).with_name('train.py'))
