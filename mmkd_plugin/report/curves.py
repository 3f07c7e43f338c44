"""Plots of a report, as SVG that stands in a page: text stays text, and lines of the frame have the page's colour."""
import io
import math
import re
import tempfile
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .pictures import agg_pyplot, label
from .scalars import Series

COLOURS = ('#3a7bd5', '#d9772b', '#2b9a72', '#8d62c9', '#c44e52', '#a8871b', '#4aa3b8', '#b0608e')
"""Told apart on light and on dark ground."""
INK, GRID = '#0a0b0c', '#0a0b0d'
"""Stand for the colours of the page's text and of its rules."""
SIZE = (5.0, 2.7)
"""Inches, of one plot: on a narrow screen it is about as wide as it is here."""
MOST_POINTS, MOST_LINES = 400, 16
LOGARITHMIC = 30.0
"""How many times the largest value has to be of the smallest for a logarithmic scale."""
STYLE = {'svg.fonttype': 'none', 'font.size': 8, 'text.color': INK, 'axes.labelcolor': INK, 'axes.edgecolor': GRID,
         'xtick.color': INK, 'ytick.color': INK, 'xtick.labelcolor': INK, 'ytick.labelcolor': INK, 'grid.color': GRID,
         'axes.spines.top': False, 'axes.spines.right': False, 'legend.frameon': False, 'axes.grid': True,
         'grid.linewidth': .5, 'xtick.major.size': 0, 'ytick.major.size': 0, 'ytick.minor.size': 0, 'svg.hashsalt': 'mmkd'}
_LINK = re.compile(r'^#(.+)$|^url\(#(.+)\)$')


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        name: in the legend.
        series: its numbers.
        colour: its number, or a colour; None for the next one.
        style: the kind of line.
    """
    name: str
    series: Series
    colour: Any = None
    style: str = '-'


@dataclass(frozen=True)
class Plot:
    """A plot as it stands in a page.

    Attributes:
        title: what it shows.
        svg: the picture, made of what this package has drawn.
        note: what is to be said below.
        wide: whether it takes the whole width.
        paper: whether it needs light ground, in dark pages too.
    """
    title: str
    svg: str
    note: str = ''
    wide: bool = False
    paper: bool = False


def draw_lines(title: str, lines: Sequence[Line], level: Optional[float] = None, positive: bool = False,
               note: str = '') -> Optional[Plot]:
    """Draws numbers over iterations; of more than 16 lines the first.

    Args:
        title: what is shown.
        lines: the numbers.
        level: a value to mark by a horizontal line.
        positive: whether the scale is to be logarithmic where values are far apart.
        note: what is to be said below.

    Returns:
        The plot; None where no line has a finite number.
    """
    there = [line for line in lines if line.series.finite]
    if not there:
        return None
    pyplot = agg_pyplot()
    with pyplot.rc_context(STYLE):
        figure, axis = pyplot.subplots(figsize=SIZE, layout='constrained')
        for number, line in enumerate(there[:MOST_LINES]):
            steps, values = thinned(line.series)
            colour = number if line.colour is None else line.colour
            marker = '.' if len(steps) < 12 else ''
            axis.plot(steps, values, line.style, linewidth=1.4, label=label(line.name, 40), marker=marker,
                      color=COLOURS[colour % len(COLOURS)] if isinstance(colour, int) else colour)
        if level is not None:
            axis.axhline(level, color=INK, linewidth=.7, linestyle=(0, (4, 4)))
        values = [value for line in there[:MOST_LINES] for value in line.series.finite]
        if positive and min(values) > 0 and max(values) > LOGARITHMIC * min(values):
            axis.set_yscale('log')
            axis.yaxis.set_major_formatter('{x:g}')  # powers of ten would be two texts
            axis.yaxis.set_minor_formatter('')
        axis.set_xlabel('iteration')
        axis.locator_params(axis='x', integer=True, nbins=6)
        if len(there) > 1:
            figure.legend(loc='outside lower center', ncols=2 if len(there) > 3 or _long(there) else len(there))
        svg = _svg(figure)
        pyplot.close(figure)
    more = f'the first {MOST_LINES} of {len(there)} lines' if len(there) > MOST_LINES else ''
    return Plot(title, svg, '. '.join(filter(None, [note, more])))


def _long(lines: Sequence[Line]) -> bool:
    return sum(len(line.name) for line in lines) > 50


def thinned(series: Series) -> Tuple[List[float], List[float]]:
    """At most 400 points of a series: means of neighbours where there are more. What is not finite is a gap."""
    size = -(-len(series.steps) // MOST_POINTS)
    parts = [slice(begin, begin + size) for begin in range(0, len(series.steps), size or 1)]
    steps = [sum(series.steps[part]) / len(series.steps[part]) for part in parts]
    return steps, [_mean(series.values[part]) for part in parts]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def drawn_by(draw: Callable[[Path], None], title: str, note: str = '') -> Plot:
    """A picture that is drawn into a file, such as those of ``mmkd plot``.

    Args:
        draw: draws it into an SVG file.
        title: what is shown.
        note: what is to be said below.
    """
    pyplot = agg_pyplot()
    with pyplot.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'mmkd'}), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'picture.svg'
        draw(file)
        return Plot(title, for_a_page(file.read_text()), note, wide=True, paper=True)


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format='svg', transparent=True, metadata=dict(Date=None))
    return for_a_page(stream.getvalue())


def for_a_page(text: str) -> str:
    """An SVG file of matplotlib as an element of an HTML page: no prologue, metadata, style sheet or ids that nothing names.

    Args:
        text: what matplotlib has written.
    """
    root = ElementTree.fromstring(text)
    for element in list(root.iter()):
        for child in [child for child in element if _local(child.tag) in ('metadata', 'style')]:
            element.remove(child)
    named = {found for element in root.iter() for value in element.attrib.values() for found in _links(value)}
    prefix = f's{zlib.crc32(text.encode())}-'
    for element in list(root.iter()):
        element.tag = _local(element.tag)
        attributes: Dict[str, str] = {}
        for name, value in element.attrib.items():
            if name == 'id' and value not in named:
                continue
            value = prefix + value if name == 'id' else _linked(value, prefix)
            attributes[_local(name)] = value.replace(INK, 'currentColor').replace(GRID, 'var(--rule)')
        element.attrib.clear()
        element.attrib.update(attributes)
    box = root.attrib['viewBox']
    root.attrib.clear()
    root.attrib.update(viewBox=box, role='img')
    written: str = ElementTree.tostring(root, encoding='unicode')
    return written


def _local(name: str) -> str:
    return name.rpartition('}')[2]


def _links(value: str) -> List[str]:
    match = _LINK.match(value)
    return [match[1] or match[2]] if match else []


def _linked(value: str, prefix: str) -> str:
    for name in _links(value):
        return value.replace(f'#{name}', f'#{prefix}{name}')
    return value
