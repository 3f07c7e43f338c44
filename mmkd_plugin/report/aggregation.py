"""Pictures of a search of feature aggregations: the weights over depth, and their course."""
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from .pictures import agg_pyplot, label, left_out

CELL = 0.55
MOST_GROUPS, MOST_LAYERS, MOST_PANELS = 24, 32, 8


def weight_matrix(groups: List[Dict[str, Any]]) -> np.ndarray:
    """The weights of all groups as (G, longest N), shallow layers first; NaN where a group has fewer layers."""
    matrix = np.full((len(groups), max(len(group['weights']) for group in groups)), np.nan)
    for row, group in zip(matrix, groups):
        row[:len(group['weights'])] = group['weights']
    return matrix


def draw_weights(content: Dict[str, Any], path: Path) -> None:
    """Writes a heat map: a row per group, deep ones at the top, a column per layer of the teacher, shallow ones left.

    A cell is coloured by its weight relative to the largest of its group: weights of groups of other lengths do not compare.
    Of more than 24 groups or 32 layers the first are drawn.

    Args:
        content: what :func:`~mmkd_plugin.dfa.artefact.read_aggregation` returned.
        path: the file to write; its suffix says the format.
    """
    pyplot = agg_pyplot()
    groups = content['groups'][:MOST_GROUPS]
    longest = max(len(group['weights']) for group in groups)
    largest = np.array([max(group['weights']) for group in groups])[::-1, None]
    matrix = weight_matrix([dict(group, weights=group['weights'][:MOST_LAYERS]) for group in groups])[::-1]
    figure, axis = pyplot.subplots(figsize=(max(4.0, CELL * matrix.shape[1] + 2.2), CELL * len(groups) + 1.3))
    relative = matrix / largest
    image = axis.imshow(relative, cmap='viridis', vmin=0, vmax=1, aspect='auto')
    axis.set_yticks(range(len(groups)), [label(group['name']) for group in groups[::-1]])
    axis.set_xticks(range(matrix.shape[1]), range(1, matrix.shape[1] + 1))
    layers, deep = left_out(MOST_LAYERS, longest, 'layers'), left_out(MOST_GROUPS, len(content['groups']), 'groups')
    axis.set_xlabel(', '.join(filter(None, ['layer of the group, shallow to deep', layers])))
    axis.set_ylabel(', '.join(filter(None, ['group, deep ones on top', deep])))
    for row, column in zip(*np.nonzero(~np.isnan(matrix))):
        axis.text(column, row, f'{matrix[row, column]:.2f}', ha='center', va='center', fontsize=7,
                  color='white' if relative[row, column] < .6 else 'black')
    figure.colorbar(image, label="weight / the group's largest", pad=.01, fraction=.03)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_course(content: Dict[str, Any], path: Path) -> None:
    """Writes the weights over the iterations of the search: a panel per group, a line per layer, light to dark with depth.

    Of more than 8 groups or 32 layers the first are drawn.

    Args:
        content: what :func:`~mmkd_plugin.dfa.artefact.read_aggregation` returned.
        path: the file to write; its suffix says the format.
    """
    pyplot = agg_pyplot()
    course = dict(list(content['course'].items())[:MOST_PANELS])
    figure, axes = pyplot.subplots(1, len(course), squeeze=False, sharey=True, figsize=(3.2 * len(course) + .6, 2.8))
    for axis, (name, points) in zip(axes[0], course.items()):
        table = np.asarray(points, dtype=float)
        there = table.shape[1] - 1
        layers = min(there, MOST_LAYERS)
        for layer in range(layers):
            axis.plot(table[:, 0], table[:, layer + 1], color=pyplot.cm.viridis(1 - (layer + 1) / (layers + 1)),
                      label=str(layer + 1))
        axis.set_title('\n'.join(filter(None, [label(name), left_out(layers, there, 'layers')])))
        axis.set_xlabel('iteration')
        axis.locator_params(axis='x', integer=True)
        axis.legend(title='layer', fontsize=6, title_fontsize=6, ncols=1 + layers // 8)
    axes[0, 0].set_ylabel('weight')
    if len(content['course']) > MOST_PANELS:
        figure.suptitle(left_out(MOST_PANELS, len(content['course']), 'groups'))
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
