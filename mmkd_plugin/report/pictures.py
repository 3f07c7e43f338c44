"""Pictures for reports. matplotlib is imported when one is drawn: training does not need it."""
from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np

from ..utils.errors import shortened

LONGEST_LABEL = 60


def draw_segmentations(rows: Sequence[Dict[str, np.ndarray]], palette: Sequence[Sequence[int]], path: Path,
                       background: int = 255) -> None:
    """Writes a picture with a row per image and a column per name.

    Args:
        rows: per image the panels by title: an image (H, W, 3) uint8 in RGB, or a label map (H, W) of class indices.
        palette: RGB of every class.
        path: the PNG to write.
        background: label that is drawn black.
    """
    pyplot = agg_pyplot()
    titles = list(rows[0])
    height, width = rows[0][titles[0]].shape[:2]
    figure, axes = pyplot.subplots(len(rows), len(titles), squeeze=False,
                                   figsize=(2.6 * len(titles), 2.6 * len(rows) * height / width + .4))
    for number, (row, line) in enumerate(zip(rows, axes)):
        for title, axis in zip(titles, line):
            panel = row[title]
            axis.imshow(panel if panel.ndim == 3 else colourise(panel, palette, background))
            axis.set_axis_off()
            if number == 0:
                axis.set_title(title)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """A text of a user or a file as matplotlib is to draw it: one line, no mathematics between dollars, printable."""
    line = ''.join(letter if letter.isprintable() else '?' for letter in shortened(text, longest))
    return line.replace('$', r'\$')


def left_out(most: int, there: int, what: str) -> str:
    """What is said where only the first of something are drawn; '' where all are."""
    return f'the first {most} of {there} {what}' if there > most else ''


def agg_pyplot() -> Any:
    """matplotlib's pyplot, drawing into files."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    return pyplot


def colourise(labels: np.ndarray, palette: Sequence[Sequence[int]], background: int = 255) -> np.ndarray:
    """A label map (H, W) as an RGB image (H, W, 3); labels outside the palette and ``background`` are black."""
    colours = np.zeros((256, 3), np.uint8)
    colours[:len(palette)] = palette
    colours[background] = 0
    picture: np.ndarray = colours[labels]
    return picture
