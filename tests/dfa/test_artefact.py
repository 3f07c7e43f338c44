"""aggregation.json: what is written is read, and whatever is wrong with a file is one clear error."""
import json

import pytest
import torch
from zoo import build, classifier, dfa, distilled

from mmkd_plugin.dfa.artefact import read_aggregation, write_aggregation
from mmkd_plugin.utils.errors import DistillationError

STAGE = 'backbone.layer3'
GROUP = dict(name='layer3', student=f'{STAGE}.1@end', teacher=[f'{STAGE}.0@end', f'{STAGE}.1@end'], weights=[.25, .75])


def written(path, sha256='abc', **changes):
    group = {**GROUP, **changes}
    course = dict(layer3=[[0, *[.5] * len(group['weights'])], [4, *group['weights']]])
    write_aggregation(path, [group], dict(model='ImageClassifier', sha256=sha256), dict(iterations=4), dict(seed=0), course)
    return str(path)


def edited(path, change):
    written(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return str(path)


def test_what_is_written_is_read_and_readable(tmp_path):
    path = written(tmp_path / 'new' / 'aggregation.json')
    content = read_aggregation(path, 'key')
    assert content['groups'] == [GROUP]
    assert content['course']['layer3'][1] == [4, .25, .75]
    assert '"weights": [0.25, 0.75]' in (tmp_path / 'new' / 'aggregation.json').read_text()
    assert not list(tmp_path.glob('new/*.tmp'))


@pytest.mark.parametrize(('text', 'message'), [
    (None, r"aggregation: file .*a.json' not found .*A run with mode='search'"), ('{', 'is not JSON'),
    ('[1]', "is not an aggregation. Its format: 'list'. Accepted: 'mmkd.aggregation'"),
    ('{"format": "mmkd process"}', "Its format: 'mmkd process'"),
    ('{"format": "mmkd.aggregation", "version": 9}', 'has version 9. Accepted: 1'),
    ('{"format": "mmkd.aggregation", "version": 1, "teacher": {}}', 'has no groups and no search and no meta')])
def test_a_file_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / 'a.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(DistillationError, match=message):
        read_aggregation(str(path), 'aggregation')


@pytest.mark.parametrize(('weights', 'message'), [
    ([.25, .65], r'group layer3: the weights \[0.25, 0.65\] sum to 0.9. Accepted: 1'),
    ([1.5, -.5], 'Accepted: numbers >= 0'),
    ([1.0], 'group layer3 has 1 weights for 2 layers'), (['a', 1], 'Accepted: a list of numbers'),
    ([float('nan'), 1.0], 'Accepted: numbers >= 0'), (None, 'Accepted: a list of numbers')])
def test_weights_that_are_none_are_refused(tmp_path, weights, message):
    with pytest.raises(DistillationError, match=message):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content['groups'][0].update(weights=weights)), 'key')


def test_unknown_keys_and_groups_without_layers_are_refused(tmp_path):
    with pytest.raises(DistillationError, match="'curse' is not known. Did you mean 'course'"):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content.update(curse=1)), 'key')
    with pytest.raises(DistillationError, match='is not a group. Accepted: name, student, teacher, weights'):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content['groups'][0].pop('teacher')), 'key')


@pytest.mark.parametrize('course', [[], dict(layer3=[]), dict(layer3=[[0, .5]]), dict(layer3=[[0, .5, '.5']]),
                                    dict(layer9=[[0, .5, .5]])])
def test_a_course_that_is_none_is_refused(tmp_path, course):
    with pytest.raises(DistillationError, match='course: is not what a search writes. Accepted: for each group a list'):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content.update(course=course)), 'key')


def test_a_file_that_is_not_there_has_a_near_one(tmp_path):
    written(tmp_path / 'aggregation.json')
    for wrong in (tmp_path / 'agregation.json', tmp_path):
        with pytest.raises(DistillationError, match="not found .* Did you mean '.*/aggregation.json'"):
            read_aggregation(str(wrong), 'key')


def model_with(path, groups=(STAGE,), **options):
    return build(distilled(classifier(), dfa=dfa('distill', groups, aggregation=path, **options)))


def test_P16_a_file_of_this_teacher_gives_its_weights_exactly(tmp_path):
    weights = torch.rand(2, dtype=torch.float64)
    weights = (weights / weights.sum()).tolist()
    torch.manual_seed(3)
    identity = build(distilled(classifier())).distillation.teacher.identity
    path = written(tmp_path / 'a.json', sha256=identity['sha256'], weights=weights)
    torch.manual_seed(3)
    model = model_with(path)
    assert model.distillation.dfa.groups[0].weights() == weights
    assert model.distillation.dfa.groups[0].sums().weights == dict(zip(GROUP['teacher'], weights))


def test_another_teacher_is_refused_unless_transferred(tmp_path):
    path = written(tmp_path / 'a.json', sha256='0123456789abcdef')
    with pytest.raises(DistillationError, match=r'model.distillers.dfa.aggregation: searched with another teacher. File: '
                                                r'ImageClassifier, sha256 0123456789ab... Config: sha256'):
        model_with(path)
    assert model_with(path, transfer=True).distillation.dfa.groups[0].weights() == [.25, .75]


def test_another_layer_of_the_student_is_refused_unless_transferred(tmp_path):
    path = written(tmp_path / 'a.json', student=f'{STAGE}.0@end')
    with pytest.raises(DistillationError, match='searched for another layer of the student in group layer3. File: '
                                                'backbone.layer3.0@end. Config: backbone.layer3.1@end'):
        model_with(path)
    assert model_with(path, transfer=True).distillation.dfa.groups[0].weights() == [.25, .75]


def test_another_number_of_blocks_is_refused_with_both_sides(tmp_path):
    path = written(tmp_path / 'a.json', teacher=[f'{STAGE}.{block}@end' for block in range(3)], weights=[.5, .25, .25])
    with pytest.raises(DistillationError, match=r'another number of layers in group layer3. File: 3 \(backbone.layer3.0@end '
                                                r'... backbone.layer3.2@end\). Teacher: 2 \(backbone.layer3.0@end'):
        model_with(path, transfer=True)


def test_other_layers_and_groups_are_refused_with_both_sides(tmp_path):
    path = written(tmp_path / 'a.json', teacher=['backbone.layer2.0@end', 'backbone.layer2.1@end'])
    with pytest.raises(DistillationError, match='other layers in group layer3. File: backbone.layer2.0@end. Config: '
                                                'backbone.layer3.0@end'):
        model_with(path, transfer=True)
    with pytest.raises(DistillationError, match='other groups. File: layer3. Config: layer3, layer4'):
        model_with(path, (STAGE, 'backbone.layer4'), transfer=True)
