"""Pictures of accuracy tables, as SVG: a bar for each row with its seeds as dots, and accuracy against time.

The same results give the same bytes, with one version of matplotlib.
"""
from io import BytesIO
from typing import Any, List, Sequence

from .accuracy import Table
from .pictures import agg_pyplot, label
from .tables import Line, line_of

WIDTH = 6.4
DISTILLED, ALONE, TEACHER, SEED = '#8fa8d8', '#c9c9c9', '#b8d8b0', '#1f2f57'
# Fixed names of parts, and text that stays text: what is written is small, and the same every time.
STYLE = {'svg.hashsalt': 'mmkd_plugin', 'svg.fonttype': 'none', 'font.size': 8, 'axes.spines.top': False,
         'axes.spines.right': False}


def bars(table: Table, lines: Sequence[Line]) -> bytes:
    """A bar for each row, as long as its mean, and a dot for each seed; a dashed line at the student alone.

    Args:
        table: whose metric and names are written there.
        lines: the rows to draw, the first on top.
    """
    pyplot = agg_pyplot()
    with pyplot.style.context(STYLE, after_reset=True):  # whatever matplotlibrc or a caller has set
        figure, axis = pyplot.subplots(figsize=(WIDTH, .9 + .26 * len(lines)), layout='constrained')
        places = range(len(lines))
        axis.barh(places, [line.mean for line in lines], height=.7, color=[_colour(line, table) for line in lines])
        for place, line in zip(places, lines):
            axis.plot(line.values, [place] * len(line.values), 'o', color=SEED, markersize=3)
        alone = line_of(table.alone_name, lines)
        if alone:
            axis.axvline(alone.mean, color=SEED, linewidth=.8, linestyle='--')
        axis.set_yticks(places, [label(line.row.name) for line in lines])
        axis.invert_yaxis()
        axis.set_xlabel(_metric(table))
        return _svg(figure, pyplot)


def accuracy_against_time(table: Table, lines: Sequence[Line]) -> bytes:
    """A dot for each row that knows its time: its mean, with the standard deviation, over seconds per iteration."""
    pyplot = agg_pyplot()
    timed = [line for line in lines if line.seconds]
    with pyplot.style.context(STYLE, after_reset=True):  # whatever matplotlibrc or a caller has set
        figure, axis = pyplot.subplots(figsize=(WIDTH, 4), layout='constrained')
        for line in timed:
            axis.errorbar(line.seconds, line.mean, yerr=line.deviation, fmt='o', color=SEED, markersize=4, capsize=2)
            axis.annotate(label(line.row.name), (line.seconds, line.mean), xytext=(5, 3), textcoords='offset points',
                          fontsize=7)
        axis.set_xlim(left=0, right=1.3 * max(line.seconds or 0 for line in timed))  # room for the names
        axis.set_xlabel('seconds per iteration')
        axis.set_ylabel(_metric(table))
        axis.grid(alpha=.3)
        return _svg(figure, pyplot)


def _colour(line: Line, table: Table) -> str:
    return {table.alone_name: ALONE, table.teacher_name: TEACHER}.get(line.row.name, DISTILLED)


def _metric(table: Table) -> str:
    return label(f'{table.metric} ({table.split})')


def _svg(figure: Any, pyplot: Any) -> bytes:
    file = BytesIO()
    figure.savefig(file, format='svg', metadata=dict(Date=None, Creator=None))
    pyplot.close(figure)
    lines: List[bytes] = [line.rstrip() for line in file.getvalue().splitlines()]
    return b'\n'.join(lines) + b'\n'
