"""Pictures of a process: how the weights of the pathways went (as Fig. 6 of DistPro)."""
from pathlib import Path
from typing import List, Sequence

import numpy as np
import torch

from ..distpro.pathways import level_names
from ..distpro.process import Process
from ..distpro.weights import NORMALISATIONS
from ..utils.errors import LONGEST_VALUE
from .pictures import agg_pyplot, label, left_out

MOST_PANELS, MOST_LINES = 12, 24
STYLES = ('-', '--', '-.', ':')


def process_weights(process: Process) -> np.ndarray:
    """The normalised weights (N, P) at the records of a process."""
    normalise = NORMALISATIONS[process.normalisation]
    return torch.stack([normalise(record, process.bias) for record in process.importance]).numpy()


def draw_process(process: Process, paths: Sequence[Path], title: str = '') -> None:
    """Draws the weights over time: a panel per teacher level, a line per pathway.

    Colour says the student level, the kind of line the transform; where a pathway is pruned its line is thin. Every panel
    has the same scale and its own legend. Of more than 12 levels, or 24 pathways to one, the first are drawn.

    Args:
        process: the process to draw.
        paths: files to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        title: text above the panels.
    """
    pyplot = agg_pyplot()
    pyplot.rcParams['svg.fonttype'] = 'none'  # text stays text
    weights, positions = process_weights(process), np.asarray(process.positions)
    there, students = (list(dict.fromkeys(getattr(pathway, side) for pathway in process.pathways))
                       for side in ('teacher', 'student'))
    teachers = there[:MOST_PANELS]
    heading = '\n'.join(filter(None, [label(title, LONGEST_VALUE), left_out(MOST_PANELS, len(there), 'teacher levels')]))
    transforms = list(dict.fromkeys(pathway.transform for pathway in process.pathways))
    labels, colours = line_labels(process), pyplot.get_cmap('viridis')(np.linspace(0, .85, len(students)))
    columns = min(len(teachers), 4)
    rows = -(-len(teachers) // columns)
    figure, axes = pyplot.subplots(rows, columns, squeeze=False, sharex=True, sharey=True, layout='constrained',
                                   figsize=(3.6 * columns, 4.2 * rows + (.3 if heading else 0)))
    for axis in axes.flat[len(teachers):]:
        axis.set_axis_off()
    for axis, teacher in zip(axes.flat, teachers):
        numbers = [number for number, pathway in enumerate(process.pathways) if pathway.teacher == teacher]
        for number in numbers[:MOST_LINES]:
            pathway, line = process.pathways[number], weights[:, number]
            style = dict(color=colours[students.index(pathway.student)],
                         linestyle=STYLES[transforms.index(pathway.transform) % len(STYLES)])
            axis.plot(positions, line, linewidth=.6, **style)
            live = process.importance[:, number].numpy() > (-np.inf if process.tau is None else process.tau)
            axis.plot(positions, np.where(live, line, np.nan), linewidth=1.8, label=label(labels[number]), **style)
        lines = [f'teacher {label(teacher)}', left_out(MOST_LINES, len(numbers), 'pathways')]
        axis.set_title('\n'.join(filter(None, lines)), fontsize=9)
        axis.set_xlabel('iteration' if process.unit == 'iter' else 'epoch')
        axis.grid(alpha=.3)
        # Below the panel: inside it would hide lines.
        axis.legend(fontsize=8, title='student', title_fontsize=8, loc='upper center', bbox_to_anchor=(.5, -.18), ncols=2)
    for line in axes:
        line[0].set_ylabel('weight')
    axes.flat[0].set_ylim(bottom=min(0, float(weights.min())))
    if heading:
        figure.suptitle(heading, fontsize=10)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    pyplot.close(figure)


def line_labels(process: Process) -> List[str]:
    """What the legend calls each pathway: the student's level, with the transform where there are several."""
    levels, several = level_names(process.pathways, 'student'), len({pathway.transform for pathway in process.pathways}) > 1
    return [levels[pathway.student] + (f', {pathway.transform}' if several else '') for pathway in process.pathways]
