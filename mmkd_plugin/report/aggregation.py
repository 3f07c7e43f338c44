"""Pictures of a search of feature aggregations: the weights over depth, and their course."""
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from .pictures import agg_pyplot

CELL = 0.55


def weight_matrix(groups: List[Dict[str, Any]]) -> np.ndarray:
    """The weights of all groups as (G, longest N), shallow layers first; NaN where a group has fewer layers."""
    matrix = np.full((len(groups), max(len(group['weights']) for group in groups)), np.nan)
    for row, group in zip(matrix, groups):
        row[:len(group['weights'])] = group['weights']
    return matrix


def draw_weights(content: Dict[str, Any], path: Path) -> None:
    """Writes a heat map: a row per group, deep ones at the top, a column per layer of the teacher, shallow ones left.

    A cell is coloured by its weight relative to the largest of its group: weights of groups of other lengths do not compare.

    Args:
        content: what :func:`~mmkd_plugin.dfa.artefact.read_aggregation` returned.
        path: the file to write; its suffix says the format.
    """
    pyplot = agg_pyplot()
    groups = content['groups']
    matrix = weight_matrix(groups)[::-1]
    figure, axis = pyplot.subplots(figsize=(max(4.0, CELL * matrix.shape[1] + 2.2), CELL * len(groups) + 1.3))
    relative = matrix / np.nanmax(matrix, axis=1, keepdims=True)
    image = axis.imshow(relative, cmap='viridis', vmin=0, vmax=1, aspect='auto')
    axis.set_yticks(range(len(groups)), [group['name'] for group in groups[::-1]])
    axis.set_xticks(range(matrix.shape[1]), range(1, matrix.shape[1] + 1))
    axis.set_xlabel('layer of the group, shallow to deep')
    axis.set_ylabel('group, deep ones on top')
    for row, column in zip(*np.nonzero(~np.isnan(matrix))):
        axis.text(column, row, f'{matrix[row, column]:.2f}', ha='center', va='center', fontsize=7,
                  color='white' if relative[row, column] < .6 else 'black')
    figure.colorbar(image, label="weight / the group's largest", pad=.01, fraction=.03)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_course(content: Dict[str, Any], path: Path) -> None:
    """Writes the weights over the iterations of the search: a panel per group, a line per layer, light to dark with depth.

    Args:
        content: what :func:`~mmkd_plugin.dfa.artefact.read_aggregation` returned.
        path: the file to write; its suffix says the format.
    """
    pyplot = agg_pyplot()
    course = content['course']
    figure, axes = pyplot.subplots(1, len(course), squeeze=False, sharey=True, figsize=(3.2 * len(course) + .6, 2.8))
    for axis, (name, points) in zip(axes[0], course.items()):
        table = np.asarray(points, dtype=float)
        layers = table.shape[1] - 1
        for layer in range(layers):
            axis.plot(table[:, 0], table[:, layer + 1], color=pyplot.cm.viridis(1 - (layer + 1) / (layers + 1)),
                      label=str(layer + 1))
        axis.set_title(name)
        axis.set_xlabel('iteration')
        axis.locator_params(axis='x', integer=True)
        axis.legend(title='layer', fontsize=6, title_fontsize=6, ncols=1 + layers // 8)
    axes[0, 0].set_ylabel('weight')
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
