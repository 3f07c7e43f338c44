"""aggregation.json: what is written is read, and whatever is wrong with a file is one clear error."""
import json
import os

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
    content = read_aggregation(path)
    assert content['groups'] == [GROUP]
    assert content['course']['layer3'][1] == [4, .25, .75]
    assert '"weights": [0.25, 0.75]' in (tmp_path / 'new' / 'aggregation.json').read_text()
    assert not list(tmp_path.glob('new/*.tmp'))


@pytest.mark.parametrize(('text', 'message'), [
    (None,
     "^'.*a.json' was not found .working dir.*Accepted: the aggregation.json that .*search.*, or last, average, random"),
    ('{', r"^'.*a.json' is no whole JSON file"),
    ('[1]', r"^'.*a.json' has the format 'list'. Accepted: format 'mmkd.aggregation'"),
    ('{"format": "mmkd process"}', "has the format 'mmkd process'"),
    ('{"format": "mmkd.aggregation", "version": 9}', 'has version 9. Accepted: 1'),
    ('{"format": "mmkd.aggregation", "version": 1, "teacher": {}}', 'has no groups and no search and no meta')])
def test_a_file_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / 'a.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(DistillationError, match=message):
        read_aggregation(str(path))


@pytest.mark.parametrize(('weights', 'message'), [
    ([.25, .65], r"^'.*a.json' group layer3: sum of the weights \[0.25, 0.65\] is 0.9. Accepted: 1"),
    ([1.5, -.5], r'group layer3: weights is \[1.5, -0.5\]. Accepted: a list of 2 numbers >= 0'),
    ([1.0], r'group layer3: weights is \[1.0\]. Accepted: a list of 2 numbers >= 0, one for each layer'),
    (['a', 1], 'Accepted: a list of 2 numbers'), ([float('nan'), 1.0], 'holds NaN. Accepted: finite numbers'),
    ([float('inf'), 1.0], 'holds Infinity. Accepted: finite numbers'), (None, 'Accepted: a list of 2 numbers')])
def test_weights_that_are_none_are_refused(tmp_path, weights, message):
    with pytest.raises(DistillationError, match=message):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content['groups'][0].update(weights=weights)))


def test_unknown_keys_and_groups_without_layers_are_refused(tmp_path):
    with pytest.raises(DistillationError, match="'curse' is no key here. Did you mean 'course'.*a.json'"):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content.update(curse=1)))
    with pytest.raises(DistillationError, match='a group is {.*}. Accepted: name, student, teacher, weights'):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content['groups'][0].pop('teacher')))


@pytest.mark.parametrize('course', [[], dict(layer3=[]), dict(layer3=[[0, .5]]), dict(layer3=[[0, .5, '.5']]),
                                    dict(layer9=[[0, .5, .5]])])
def test_a_course_that_is_none_is_refused(tmp_path, course):
    with pytest.raises(DistillationError, match='course is .*. Accepted: for each group a list of .iteration, weight of'):
        read_aggregation(edited(tmp_path / 'a.json', lambda content: content.update(course=course)))


@pytest.mark.parametrize(('number', 'message'), [
    ('NaN', 'holds NaN. Accepted: finite numbers'), ('-Infinity', 'holds -Infinity. Accepted: finite numbers'),
    ('1e999', 'holds 1e999. Accepted: finite numbers')])
def test_a_course_with_numbers_that_are_not_finite_is_refused(tmp_path, number, message):
    path = tmp_path / 'a.json'
    written(path)
    read_aggregation(path)
    path.write_text(path.read_text().replace('[4, 0.25, 0.75]', f'[4, {number}, 0.75]'))
    with pytest.raises(DistillationError, match=f"^'.*a.json' {message}"):
        read_aggregation(path)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda content: content['groups'].append(content['groups'][0]), "groups is 'layer3, layer3'. Accepted: names that"),
    (lambda content: content['groups'][0].update(extra=1), 'a group is .*extra.*Accepted: name, student, teacher, weights'),
    (lambda content: content['groups'][0].update(name=''), 'a group is .*Accepted: name, student, teacher, weights'),
    (lambda content: content['groups'][0].update(teacher=['x' * 10 ** 6] * 2), 'group layer3: teacher is .*a list of taps'),
    (lambda content: content['groups'][0].update(weights=[10 ** 400, 0]), 'group layer3: weights is .*numbers >= 0'),
    (lambda content: content['groups'][0].update(weights=[3.5e38, 0]), 'group layer3: weights is .*numbers >= 0'),
    (lambda content: content['groups'][0].update(weights=[.5] * 10 ** 5), 'group layer3: weights is .*numbers >= 0'),
    (lambda content: content['course'].update(layer3=[[10 ** 400, .5, .5]]), 'course is .*Accepted: for each group a list'),
    (lambda content: content.update(meta=[]), 'meta or search is .*no object'),
    (lambda content: content.update(version=True), 'has version True. Accepted: 1')],
    ids=['names-alike', 'extra-key', 'no-name', 'long-tap', 'digits', 'no-float32', 'many-weights', 'course', 'meta',
         'version'])
def test_what_a_search_does_not_write_is_one_short_error(tmp_path, change, message):
    with pytest.raises(DistillationError, match=f"^'.*a.json' {message}") as error:
        read_aggregation(edited(tmp_path / 'a.json', change))
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('"seed": 0', '"seed": 0, "seed": 0', "has 'seed' twice in one object. Accepted: each key once"),
    ('"seed": 0', f'"seed": {"[" * 900}{"]" * 900}', 'is nested more than 50 deep'),
    ('"seed": 0', f'"seed": {"[" * 100000}{"]" * 100000}', 'is no whole JSON file'),
    ('"seed": 0', f'"seed": 1{"0" * 5000}', 'is no whole JSON file'),
    ('"seed": 0', '"seed": "\\ud83d"', 'holds half a letter')],
    ids=['a-key-twice', 'deep', 'deeper-than-Python-reads', 'digits', 'half-a-letter'])
def test_a_hostile_text_is_one_error(tmp_path, old, new, message):
    path = tmp_path / 'a.json'
    written(path)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DistillationError, match=f"^'.*a.json' {message}"):
        read_aggregation(path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.json')
    with pytest.raises(DistillationError, match=r'is no regular file\. Accepted: the aggregation.json'):
        read_aggregation(tmp_path / 'a.json')


def test_a_file_that_is_not_there_has_a_near_one(tmp_path):
    written(tmp_path / 'aggregation.json')
    for wrong in (tmp_path / 'agregation.json', tmp_path):
        with pytest.raises(DistillationError, match="was not found .* Did you mean '.*/aggregation.json'"):
            read_aggregation(str(wrong))


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


def test_by_default_the_file_of_the_runs_own_search_is_read(tmp_path):
    written(tmp_path / 'search/aggregation.json')
    model = build(distilled(classifier(), dfa=dfa('distill', (STAGE,), transfer=True)), attach=False)
    assert model.attach_distillation(tmp_path).dfa.groups[0].weights() == [.25, .75]
    model = build(distilled(classifier(), dfa=dfa('distill', (STAGE,), transfer=True)), attach=False)
    message = 'model.distillers.dfa.aggregation: .*other/search/aggregation.json.*Accepted: .*search'
    with pytest.raises(DistillationError, match=message):
        model.attach_distillation(tmp_path / 'other')


def test_another_teacher_is_refused_unless_transferred(tmp_path):
    path = written(tmp_path / 'a.json', sha256='0123456789abcdef')
    message = (r"model.distillers.dfa.aggregation: '.*a.json' was searched with another teacher. File: ImageClassifier, "
               r'sha256 0123456789ab... Config: sha256 .*transfer=True')
    with pytest.raises(DistillationError, match=message):
        model_with(path)
    assert model_with(path, transfer=True).distillation.dfa.groups[0].weights() == [.25, .75]


def test_another_layer_of_the_student_is_refused_unless_transferred(tmp_path):
    path = written(tmp_path / 'a.json', student=f'{STAGE}.0@end')
    with pytest.raises(DistillationError, match='was searched for another layer of the student in group layer3. File: '
                                                'backbone.layer3.0@end. Config: backbone.layer3.1@end. With transfer=True'):
        model_with(path)
    assert model_with(path, transfer=True).distillation.dfa.groups[0].weights() == [.25, .75]


def test_another_number_of_blocks_is_refused_with_both_sides(tmp_path):
    path = written(tmp_path / 'a.json', teacher=[f'{STAGE}.{block}@end' for block in range(3)], weights=[.5, .25, .25])
    with pytest.raises(DistillationError, match=r'another number of layers of the teacher in group layer3. File: 3 '
                                                r'\(backbone.layer3.0@end ... backbone.layer3.2@end\). Teacher: 2 '
                                                r"\(backbone.layer3.0@end .*the search's value of 'every_block'"):
        model_with(path, transfer=True)


def test_other_layers_and_groups_are_refused_with_both_sides(tmp_path):
    path = written(tmp_path / 'a.json', teacher=['backbone.layer2.0@end', 'backbone.layer2.1@end'])
    with pytest.raises(DistillationError, match='other layers in group layer3. File: backbone.layer2.0@end. Config: '
                                                'backbone.layer3.0@end'):
        model_with(path, transfer=True)
    with pytest.raises(DistillationError, match='other groups. File: layer3. Config: layer3, layer4'):
        model_with(path, (STAGE, 'backbone.layer4'), transfer=True)
