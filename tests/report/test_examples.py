"""Example pictures, of small real models: the image, the truth, and what networks make of it."""
import base64
import io

import numpy as np
import pytest
import torch
from made_runs import make_run, numbers
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from PIL import Image
from zoo import STUDENTS, build, distilled, loader

from mmkd_plugin.report.compare import compare
from mmkd_plugin.report.examples import image_of, make_examples
from mmkd_plugin.report.panels import Painter, Said, picture, said_by_annotation, said_by_network

SCOPES = ['mmseg', 'mmpretrain', pytest.param('mmdet', marks=pytest.mark.slow)]


def seen(panel):
    """The picture of a panel as an array."""
    kind, data = panel.source.split(',')
    assert kind == 'data:image/jpeg;base64'
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)


def trained(folder, scope):
    """A distilled run and a run alone whose checkpoints hold random weights; the teacher's too."""
    student = STUDENTS[scope]()
    teacher = STUDENTS[scope](base_channels=16)
    folder.mkdir()
    torch.save(dict(state_dict=build(teacher).state_dict()), folder / 'teacher.pth')
    model = distilled(student, teacher, dict(checkpoint=str(folder / 'teacher.pth')))
    for name, block in (('mine', model), ('alone', student)):
        run = make_run(folder / name, block, numbers())
        more = Config(dict(model=block, default_scope=scope, val_dataloader=loader(scope, 5, shuffle=False)))
        more.dump(run / 'config.py')
        content = torch.load(run / 'iter_100.pth')
        torch.save(dict(content, state_dict=build(student).state_dict()), run / 'iter_100.pth')
    return folder


@pytest.mark.parametrize('scope', SCOPES)
def test_each_network_stands_beside_the_truth(tmp_path, scope):
    runs = trained(tmp_path / 'runs', scope)
    found = make_examples(compare([runs / 'mine', runs / 'alone']), 2)
    assert found.notes == []
    assert [[panel.caption for panel in row] for row in found.rows] == [
        ['image', 'truth', 'teacher', 'student alone', 'distilled']] * 2
    assert bool(found.classes) == (scope != 'mmpretrain')  # there they stand below the pictures
    for row in found.rows:
        assert all(panel.source or (scope == 'mmpretrain' and 'class ' in panel.text) for panel in row)


def test_where_a_network_does_not_build_a_note_says_so(tmp_path):
    runs = trained(tmp_path / 'runs', 'mmpretrain')
    (runs / 'teacher.pth').unlink()
    found = make_examples(compare([runs / 'mine']), 1)
    assert [panel.caption for panel in found.rows[0]] == ['image', 'truth', 'distilled']
    assert 'the teacher is not shown: ' in found.notes[0]
    (runs / 'mine/iter_100.pth').unlink()
    found = make_examples(compare([runs / 'mine']), 1)
    assert (found.rows, found.notes[-1]) == ([], 'no example pictures: no network could be built with its weights')


def test_a_data_set_that_is_not_there_is_a_note_and_no_pictures_build_nothing(tmp_path, monkeypatch):
    run = make_run(tmp_path / 'run', lines=numbers(), val_dataloader=dict(dataset=dict(type='NoSuchDataset')))
    comparison = compare([run])
    assert make_examples(comparison, 1).notes[0].startswith('no example pictures: DistillationError: val_dataloader.dataset')
    monkeypatch.setattr('mmkd_plugin.report.examples._make', None)
    assert make_examples(comparison, 0).notes == []


class Sample:
    """A data sample with these fields."""

    def __init__(self, meta=None, **fields):
        self.metainfo = meta or {}
        self.__dict__.update(fields)


def test_classes_have_the_colours_of_the_palette_and_what_is_ignored_is_black():
    labels = torch.zeros(1, 120, 120, dtype=torch.long)
    labels[:, :60], labels[:, 100:] = 1, 255
    said = said_by_annotation(Sample(gt_sem_seg=PixelData(data=labels)))
    painter = Painter(('a', 'b'), ((0, 0, 250), (250, 0, 0)))
    image = seen(painter.panel('truth', np.full((120, 120, 3), 100, np.uint8), said, said))
    for place, colour in ((10, (190, 40, 40)), (80, (40, 40, 190)), (115, (0, 0, 0))):
        assert np.abs(image[place, 60] - colour).max() < 12
    assert painter.present([said]) == [0, 1]


def test_boxes_of_an_annotation_are_brought_to_the_size_of_the_image_and_weak_predictions_left_out():
    boxes = torch.tensor([[20., 20., 60., 80.]])
    truth = said_by_annotation(Sample(gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([2]))), (2., 4.))
    assert truth.boxes.tolist() == [[10., 5., 30., 20.]]
    instances = InstanceData(bboxes=boxes.repeat(3, 1), labels=torch.tensor([0, 1, 2]), scores=torch.tensor([.1, .9, .5]))
    said = said_by_network(Sample(pred_instances=instances))
    assert (list(said.classes), said.scores) == ([1, 2], pytest.approx([.9, .5]))


def test_masks_are_painted_and_boxes_drawn():
    masks = torch.zeros(1, 200, 200, dtype=torch.bool)
    masks[:, 50:150, 50:150] = True
    said = Said(boxes=np.array([[50., 50, 150, 150]]), masks=masks.numpy(), classes=[0], scores=[.9])
    image = seen(Painter(palette=((250, 0, 0),)).panel('x', np.full((200, 200, 3), 100, np.uint8), said, Said()))
    assert np.abs(image[100, 100] - (175, 50, 50)).max() < 12
    assert np.abs(image[180, 180] - 100).max() < 12


def test_depths_have_one_range_and_what_is_not_known_is_grey():
    truth = said_by_annotation(Sample(gt_depth_map=PixelData(data=torch.linspace(0, 9, 150 * 150).view(1, 150, 150))))
    far = Said(depth=np.full((150, 150), 9.))
    painter, blank = Painter(), np.zeros((150, 150, 3), np.uint8)
    there, image = seen(painter.panel('truth', blank, truth, truth)), seen(painter.panel('far', blank, far, truth))
    assert np.abs(image[75, 75] - there[149, 149]).max() < 20
    unknown = Said(depth=np.zeros((150, 150)))
    assert np.abs(seen(painter.panel('x', blank, unknown, truth)) - 127).max() < 5


def test_a_wrong_class_is_marked():
    said, painter = Said(answer=1, confidence=.75), Painter(('cat', 'dog'))
    image = np.zeros((8, 8, 3), np.uint8)
    assert painter.panel('x', image, said, Said(answer=0)).text == '✗ dog (75%)'
    assert painter.panel('x', image, said, Said(answer=1)).text == 'dog (75%)'
    assert painter.panel('x', image, Said(answer=7), Said()).text == 'class 7'


def test_an_image_is_in_rgb_and_of_the_size_that_it_had():
    inputs = torch.zeros(3, 64, 64, dtype=torch.uint8)
    inputs[0, :32] = 200  # blue, as it is read from a file; below is padding
    sample = Sample(dict(ori_shape=(16, 32), img_shape=(64, 64), scale_factor=(2., 2.), img_path='x.png'))
    image = image_of(dict(inputs=inputs), sample, swap=False)
    assert image.shape == (16, 32, 3)
    assert (image == (0, 0, 200)).all()
    assert (image_of(dict(inputs=inputs), Sample(), swap=False)[:32] == (200, 0, 0)).all()  # an array of a data set, in RGB


@pytest.mark.parametrize(('size', 'shown'), [((32, 32), (128, 128)), ((2000, 1000), (480, 240)), ((200, 300), (200, 300))])
def test_pictures_have_a_size_that_fits(size, shown):
    class Panel:
        source = picture(np.zeros((*size, 3), np.uint8))

    assert seen(Panel).shape[:2] == shown
