"""The picture of a process: a panel per teacher level, a labelled line per pathway."""
import numpy as np
import torch
from PIL import Image

from mmkd_plugin.distpro import Process
from mmkd_plugin.distpro.members import OtherLoss
from mmkd_plugin.distpro.pathways import make_pathways
from mmkd_plugin.report.processes import draw_process, line_labels, process_weights

LEVELS = ['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact']


def process(transforms=('conv1',), **options):
    pathways = make_pathways(LEVELS, LEVELS, 'lower_to_higher', transforms)
    importance = torch.linspace(0, 2, 4 * len(pathways)).double().view(4, -1)
    return Process(pathways, 'biased_softmax', 1., .5, importance, 10, 3, **options)


def test_the_weights_are_the_normalised_importance():
    weights = process_weights(process())
    exp = np.exp(np.linspace(0, 2, 24).reshape(4, 6))
    np.testing.assert_allclose(weights, exp / (exp.sum(1, keepdims=True) + np.e))


def test_lines_are_called_by_the_students_level_and_the_transform_where_there_are_several():
    assert line_labels(process())[:3] == ['layer1', 'layer2', 'layer3']
    assert line_labels(process(['conv1', 'conv3_relu']))[:2] == ['layer1, conv1', 'layer1, conv3_relu']


def test_png_and_svg_have_a_panel_per_teacher_level_and_readable_legends(tmp_path):
    paths = [tmp_path / 'out' / 'process.png', tmp_path / 'out' / 'process.svg']
    draw_process(process(['conv1', 'conv2'], unit='epoch'), paths, 'found')
    assert min(Image.open(paths[0]).size) > 300
    text = paths[1].read_text()
    assert all(f'>teacher {level}<' in text for level in LEVELS)
    assert text.count('>layer3, conv2<') == 3  # once in each panel: all teacher levels are compared with it
    assert text.count('>layer1, conv1<') == 1
    assert text.count('>epoch<') == 3
    assert '>found<' in text


def test_the_losses_of_other_distillers_have_a_panel_of_their_own(tmp_path):
    pathways = make_pathways(LEVELS[:2], LEVELS[:2], 'lower_to_higher', ['conv1'])
    members = [*pathways, OtherLoss('kd'), OtherLoss('mgd', 'loss_layer4')]
    path = tmp_path / 'process.svg'
    draw_process(Process(members, 'softmax', 1., .5, torch.rand(4, 5).double(), 10, 3), [path])
    text = path.read_text()
    assert text.count('>losses of other distillers<') == 1
    assert text.count('>teacher backbone.layer') == 2
    assert text.count('>mgd.layer4<') == text.count('>kd<') == 1
    alone = Process(members[3:], 'softmax', 1., .5, torch.rand(4, 2).double(), 10, 3)
    draw_process(alone, [path])
    assert '>teacher' not in path.read_text()
    assert line_labels(alone) == ['kd', 'mgd.layer4']
