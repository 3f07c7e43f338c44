"""Pictures of a process: how the weights of the pathways went (as Fig. 6 of DistPro)."""
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import torch

from ..distpro.members import OtherLoss, name_members
from ..distpro.pathways import Pathway, level_names
from ..distpro.process import Process
from ..distpro.weights import NORMALISATIONS
from ..utils.errors import LONGEST_VALUE
from .pictures import agg_pyplot, label, left_out

MOST_PANELS, MOST_LINES = 12, 24
STYLES = ('-', '--', '-.', ':')
OTHERS = 'losses of other distillers'


def process_weights(process: Process) -> np.ndarray:
    """The normalised weights (N, P) at the records of a process."""
    normalise = NORMALISATIONS[process.normalisation]
    return torch.stack([normalise(record, process.bias) for record in process.importance]).numpy()


def draw_process(process: Process, paths: Sequence[Path], title: str = '') -> None:
    """Draws the weights over time: a panel per teacher level, a line per pathway; and one panel for all other members.

    Colour says the student level, the kind of line the transform; where a member is pruned its line is thin. Every panel
    has the same scale and its own legend. Of more than 12 panels, or 24 lines in one, the first are drawn.

    Args:
        process: the process to draw.
        paths: files to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        title: text above the panels.
    """
    pyplot = agg_pyplot()
    pyplot.rcParams['svg.fonttype'] = 'none'  # text stays text
    weights, positions = process_weights(process), np.asarray(process.positions)
    there = _panels(process)
    heading = '\n'.join(filter(None, [label(title, LONGEST_VALUE), left_out(
        MOST_PANELS, len(there), 'panels' if OTHERS in there else 'teacher levels')]))
    panels = dict(list(there.items())[:MOST_PANELS])
    labels, styles = line_labels(process), _line_styles(process, pyplot)
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, squeeze=False, sharex=True, sharey=True, layout='constrained',
                                   figsize=(3.6 * columns, 4.2 * rows + (.3 if heading else 0)))
    for axis in axes.flat[len(panels):]:
        axis.set_axis_off()
    for axis, (panel, numbers) in zip(axes.flat, panels.items()):
        for number in numbers[:MOST_LINES]:
            line, style = weights[:, number], styles[number]
            axis.plot(positions, line, linewidth=.6, **style)
            live = process.importance[:, number].numpy() > (-np.inf if process.tau is None else process.tau)
            axis.plot(positions, np.where(live, line, np.nan), linewidth=1.8, label=label(labels[number]), **style)
        what = 'losses' if panel == OTHERS else 'pathways'
        lines = [panel if panel == OTHERS else f'teacher {label(panel)}', left_out(MOST_LINES, len(numbers), what)]
        axis.set_title('\n'.join(filter(None, lines)), fontsize=9)
        axis.set_xlabel('iteration' if process.unit == 'iter' else 'epoch')
        axis.grid(alpha=.3)
        # Below the panel: inside it would hide lines.
        axis.legend(fontsize=8, title=None if panel == OTHERS else 'student', title_fontsize=8, loc='upper center',
                    bbox_to_anchor=(.5, -.18), ncols=2)
    for line in axes:
        line[0].set_ylabel('weight')
    axes.flat[0].set_ylim(bottom=min(0, float(weights.min())))
    if heading:
        figure.suptitle(heading, fontsize=10)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _panels(process: Process) -> Dict[str, List[int]]:
    """The numbers of the members in each panel: of the pathways by their teacher's tap, then of the others."""
    found: Dict[str, List[int]] = {}
    for number, member in enumerate(process.members):
        found.setdefault(member.teacher if isinstance(member, Pathway) else OTHERS, []).append(number)
    return found


def _line_styles(process: Process, pyplot: Any) -> List[Dict[str, Any]]:
    """Colour and kind of the line of each member."""
    students, transforms = (list(dict.fromkeys(getattr(pathway, side) for pathway in process.pathways))
                            for side in ('student', 'transform'))
    others = [member for member in process.members if isinstance(member, OtherLoss)]
    levels = pyplot.get_cmap('viridis')(np.linspace(0, .85, max(1, len(students))))
    kinds = pyplot.get_cmap('tab10')
    return [dict(color=levels[students.index(member.student)],
                 linestyle=STYLES[transforms.index(member.transform) % len(STYLES)]) if isinstance(member, Pathway) else
            dict(color=kinds(others.index(member) % 10), linestyle=STYLES[others.index(member) // 10 % len(STYLES)])
            for member in process.members]


def line_labels(process: Process) -> List[str]:
    """What the legend calls each member: of a pathway the student's level, with the transform where there are several."""
    levels, several = level_names(process.pathways, 'student'), len({pathway.transform for pathway in process.pathways}) > 1
    return [name if isinstance(member, OtherLoss) else
            levels[member.student] + (f', {member.transform}' if several else '')
            for name, member in zip(name_members(process.members), process.members)]


def name_shares(process: Process) -> Dict[str, float]:
    """The weight of each member at the end of a process, by its name in pictures; 0 where it is pruned."""
    last, live = process_weights(process)[-1], process.importance[-1]
    return {name: float(weight) if process.tau is None or float(importance) > process.tau else 0.0
            for name, weight, importance in zip(name_members(process.members), last, live)}
