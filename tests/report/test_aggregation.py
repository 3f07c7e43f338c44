"""Pictures of a search of aggregations."""
import numpy as np
import pytest
from PIL import Image

from mmkd_plugin.dfa.artefact import read_aggregation, write_aggregation
from mmkd_plugin.report.aggregation import draw_course, draw_weights, weight_matrix


@pytest.fixture
def file(tmp_path):
    groups = [dict(name=f'layer{stage}', student='s', teacher=['t'] * len(weights), weights=weights)
              for stage, weights in ((1, [.7, .2, .1]), (2, [.4, .3, .2, .1]))]
    course = {group['name']: [[0, *[1 / len(group['weights'])] * len(group['weights'])], [10, *group['weights']]]
              for group in groups}
    write_aggregation(tmp_path / 'aggregation.json', groups, dict(model='M', sha256='x'), {}, {}, course)
    return tmp_path / 'aggregation.json'


def test_groups_of_different_depth_are_aligned_at_their_shallow_end(file):
    matrix = weight_matrix(read_aggregation(file)['groups'])
    np.testing.assert_allclose(matrix[0, :3], [.7, .2, .1])
    assert np.isnan(matrix[0, 3])
    np.testing.assert_allclose(matrix[1], [.4, .3, .2, .1])


def test_the_largest_weight_of_each_group_is_the_brightest(file, tmp_path):
    draw_weights(read_aggregation(file), tmp_path / 'a.png')
    pixels = np.asarray(Image.open(tmp_path / 'a.png').convert('RGB')).astype(int)
    yellow = np.argwhere((abs(pixels - (253, 231, 37)) < 8).all(2))
    inside = yellow[yellow[:, 1] < pixels.shape[1] * .7]  # the colour bar is right of it
    assert inside[:, 1].max() < pixels.shape[1] * .4, 'the first column'
    assert np.ptp(inside[:, 0]) > pixels.shape[0] * .4, 'of both rows'


def test_the_course_has_a_panel_for_each_group(file, tmp_path):
    draw_course(read_aggregation(file), tmp_path / 'c.png')
    assert Image.open(tmp_path / 'c.png').size[0] > Image.open(tmp_path / 'c.png').size[1] * 2


def test_the_svg_has_a_panel_for_each_group(file, tmp_path):
    draw_course(read_aggregation(file), tmp_path / 'c.svg')
    assert (tmp_path / 'c.svg').read_text().count('<g id="axes_') == 2
