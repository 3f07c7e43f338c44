"""The process file: interpolation (T5), writing, reading, and every way in which a file can be wrong."""
import json
import os

import pytest
import torch
from distpro_runs import LEVELS, distpro

from mmkd_plugin.distiller import Surroundings, build_distiller
from mmkd_plugin.distpro.artefact import check_members, read_process, write_process
from mmkd_plugin.distpro.members import rename
from mmkd_plugin.distpro.pathways import Pathway
from mmkd_plugin.distpro.process import Process, choose_every, interpolate, record_positions
from mmkd_plugin.utils.errors import DistillationError, under

PATHWAYS = [Pathway('layer1', 'layer1', 'conv1'), Pathway('layer1', 'layer2', 'conv1'), Pathway('layer2', 'layer2', 'conv1')]


def process(records=4, length=None, every=1, **others):
    length = length or records
    importance = torch.arange(records * 3, dtype=torch.float64).view(records, 3) / 8
    return Process(PATHWAYS, 'biased_softmax', 1.0, 0.5, importance, length, every, **others)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def stretched(values, steps):
    return [float(interpolate(column(*values), list(range(len(values))), step, steps)) for step in range(steps)]


def test_T5_interpolation():
    assert stretched((0, 1, 3), 5) == [0, .5, 1, 2, 3]
    assert stretched((0, 1, 3), 3) == [0, 1, 3]
    assert stretched((0, 1, 3), 1) == [0]
    assert stretched((7,), 3) == [7, 7, 7]


def test_beyond_the_schedule_the_last_value_holds():
    assert float(interpolate(column(0, 1, 3), [0, 1, 2], 9, 5)) == 3


def test_records_that_are_not_of_every_step_are_interpolated_between():
    positions = record_positions(8, 3)
    assert positions == [0, 3, 6, 7]
    values = column(0, 3, 6, 7)  # a_t = t, recorded every third step and at the last
    assert [float(interpolate(values, positions, step, 8)) for step in range(8)] == list(range(8))
    assert float(interpolate(values, positions, 3, 15)) == 1.5


@pytest.mark.parametrize(('length', 'pathways'), [(100, 10), (12480, 10), (90000, 27), (10 ** 6, 100), (1, 3), (2, 3)])
def test_a_file_stays_below_a_megabyte(tmp_path, length, pathways):
    every = choose_every(length, pathways)
    assert every == 1 or len(record_positions(length, every)) > 500
    names = [Pathway(f't{number}', 's', 'conv1') for number in range(pathways)]
    importance = -torch.rand(len(record_positions(length, every)), pathways, dtype=torch.float64) * 50
    write_process(tmp_path / 'process.json', Process(names, 'softmax', 1.0, .5, importance, length, every))
    assert (tmp_path / 'process.json').stat().st_size < 10 ** 6


def test_what_is_written_is_what_is_read(tmp_path):
    written = process(records=5, length=12, every=3, unit='epoch', meta=dict(seed=3, date='2022-10-23'))
    path = tmp_path / 'new' / 'process.json'
    write_process(path, written)
    read = read_process(path)
    assert torch.equal(read.importance, written.importance)
    assert {**vars(read), 'importance': None} == {**vars(written), 'importance': None}
    assert read.digest() == written.digest()
    assert json.loads(path.read_text())['importance'][1] == [.375, .5, .625]
    assert ' [0.375, 0.5, 0.625],\n' in path.read_text()  # a record a line
    assert [file.name for file in path.parent.iterdir()] == ['process.json']


# As version 0.1 wrote it.
VERSION_0_1 = """{
 "format": "mmkd.process",
 "version": 1,
 "pathways": [
  {"teacher": "backbone.layer1@preact", "student": "backbone.layer1@preact", "transform": "conv1"},
  {"teacher": "backbone.layer1@preact", "student": "backbone.layer2@preact", "transform": "conv1"},
  {"teacher": "backbone.layer2@preact", "student": "backbone.layer2@preact", "transform": "conv1"}],
 "normalisation": "biased_softmax",
 "bias": 1.0,
 "tau": 0.5,
 "unit": "iter",
 "length": 8,
 "every": 5,
 "meta": {"dataset": "CustomDataset data/cifar", "versions": {"torch": "2.6.0", "mmkd_plugin": "0.1"}, "seed": 0},
 "importance": [
  [1.0, 1.0, 1.0],
  [1.049999, 0.95, 1.05],
  [1.08125, 0.9, 1.1]]
}
"""


def test_a_file_of_version_0_1_still_opens_and_replays(tmp_path):
    (tmp_path / 'process.json').write_text(VERSION_0_1)
    read = read_process(tmp_path / 'process.json')
    assert (read.length, read.every, read.positions, read.bias, read.tau) == (8, 5, [0, 5, 7], 1.0, 0.5)
    assert read.importance.tolist() == [[1, 1, 1], [1.049999, .95, 1.05], [1.08125, .9, 1.1]]
    assert read.meta['versions']['mmkd_plugin'] == '0.1'
    distiller = attached(tmp_path / 'process.json', length=8)
    assert distiller.importance.at(5).tolist() == [1.049999, .95, 1.05]
    write_process(tmp_path / 'again.json', read)
    assert json.loads((tmp_path / 'again.json').read_text()) == json.loads(VERSION_0_1)


def attached(path, **options):
    """A distiller that has read the file, as in a model."""
    distiller = build_distiller('distpro', distpro('process', process=str(path), **options))
    with under(distiller.path):
        distiller.find_taps(Surroundings(torch.nn.Identity(), {}))
    return distiller


def wrong(tmp_path, change):
    path = tmp_path / 'process.json'
    write_process(path, process())
    content = json.loads(path.read_text())
    text = change(content)
    path.write_text(text if isinstance(text, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda content: content.update(version=3), r'has version 3. Accepted: 1 or 2'),
    (lambda content: content.update(version=2), r"'pathways' is no key here"),
    (lambda content: content.update(format='x'), r"has the format 'x'. Accepted: format 'mmkd.process'"),
    (lambda content: content.pop('bias'), r'has no bias. Accepted: format, version, pathways, '),
    (lambda content: content.update(biass=1), r"'biass' is no key here. Did you mean 'bias'.*Accepted: .*File: '.*json'"),
    (lambda content: content['pathways'].pop(), r'record 0 is \[0.0, 0.125, 0.25\]. Accepted: 2 finite numbers'),
    (lambda content: content['importance'].pop(), r'number of records is 3. Accepted: 4 \(length 4'),
    (lambda content: content.update(length=9), r'number of records is 4. Accepted: 9'),
    (lambda content: content['importance'][2].__setitem__(1, 'x'), r'record 2 is .*Accepted: 3 finite numbers'),
    (lambda content: content['importance'][2].__setitem__(1, float('nan')), r'holds NaN. Accepted: finite numbers'),
    (lambda content: json.dumps(content).replace('0.125', '1e999'), r'holds 1e999. Accepted: finite numbers'),
    (lambda content: json.dumps(content)[:-40], r'is no whole JSON file .*Was its writing interrupted'),
    (lambda content: content.update(normalisation='soft'), r"normalisation is 'soft'. Accepted: biased_softmax"),
    (lambda content: content.update(unit='step'), r"unit is 'step'. Accepted: iter, epoch"),
    (lambda content: content.update(tau='x'), r"tau is 'x'. Accepted: a number or null"),
    (lambda content: content.update(pathways=[1]), r'pathways is \[1\]. Accepted: a list of objects'),
    (lambda content: '[1]', r"has the format 'list'. Accepted: format 'mmkd.process'")])
def test_a_broken_file_is_one_error_that_says_both_sides(tmp_path, change, message):
    path = wrong(tmp_path, change)
    with pytest.raises(DistillationError, match=message) as error:
        read_process(path)
    assert 'process.json' in str(error.value)
    with pytest.raises(DistillationError, match=f'^model.distillers.distpro.process: .*{message}'):
        attached(path)


MANY_DIGITS = '1' + '0' * 4298  # as many as Python reads
HOSTILE_TEXTS = {
    'a length that no memory holds': ('"length": 4', '"length": 1000000000'),
    'a length that no float holds': ('"length": 4', f'"length": {MANY_DIGITS}'),
    'a length that no float holds, and two records': (
        '"length": 4,\n "every": 1,', f'"length": {MANY_DIGITS},\n "every": {MANY_DIGITS},'),
    'a distance that no float holds': ('"every": 1', f'"every": {MANY_DIGITS}'),
    'a record that no float holds': ('0.125', MANY_DIGITS),
    'a bias that no float holds': ('"bias": 1.0', f'"bias": -{MANY_DIGITS}'),
    'more digits than Python reads': ('"length": 4', f'"length": {MANY_DIGITS}000'),
    'NaN': ('0.125', 'NaN'), 'infinity': ('0.125', 'Infinity'), '- infinity': ('"tau": 0.5', '"tau": -Infinity'),
    'infinity written out': ('"bias": 1.0', '"bias": 1e999'),
    'deep nesting': ('"meta": {}', f'"meta": {"[" * 100000}{"]" * 100000}'),
    'deep nesting of objects': ('"meta": {}', '"meta": ' + '{"a": ' * 100000 + '1' + '}' * 100000),
    'a list of many lists': ('"version": 1', f'"version": [{"[]," * 10000}[]]'),
    'a record too long': ('0.125', '0.125, ' * 10000 + '0.125'),
    'a control character': ('biased_softmax', 'biased\nsoftmax'),
    'half a surrogate': ('biased_softmax', '\\ud800'),
    'half a surrogate in a tap': ('"student": "layer2"', '"student": "layer\\udc80"'),
    'half a surrogate as a key': ('"meta": {}', '"meta": {"\\ud800": 1}'),
    'a key twice': ('"tau": 0.5', '"tau": 0.5, "tau": null'),
    'a key twice inside': ('"meta": {}', '"meta": {"a": 1, "a": 1}'),
    'nesting that Python reads': ('"meta": {}', f'"meta": {{"a": {"[" * 900}{"]" * 900}}}'),
    'nesting that Python reads, as a record': ('0.125', f'{"[" * 900}{"]" * 900}'),
    'a record that no float32 holds': ('0.125', '1e39'), 'a bias that no float32 holds': ('"bias": 1.0', '"bias": -1e39'),
    'a length beyond what floats tell apart': ('"length": 4,\n "every": 1', f'"length": {10 ** 17},\n "every": {10 ** 17}'),
    'a tap without a name': ('"student": "layer2"', '"student": ""'),
    'a tap of a million letters': ('"student": "layer2"', f'"student": "{"x" * 10 ** 6}"')}


@pytest.mark.parametrize('name', HOSTILE_TEXTS)
def test_a_hostile_text_is_one_error(tmp_path, name):
    path = tmp_path / 'process.json'
    write_process(path, process())
    text, (old, new) = path.read_text(), HOSTILE_TEXTS[name]
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DistillationError, match=r'^model.distillers.distpro.process: ') as error:
        attached(path)
    assert 'process.json' in str(error.value)
    assert len(str(error.value)) < 6000


VALUES = [None, True, -1, 0, 1.5, 10 ** 30, 'x', [], [[]], {}, dict(a=1)]
FITTING = dict(bias=[-1, 0, 1.5, 10 ** 30], tau=[None, -1, 0, 1.5, 10 ** 30], meta=[{}, dict(a=1)])


@pytest.mark.parametrize('key', ['format', 'version', *process().content()])
def test_a_wrong_type_for_any_key_is_one_error_and_what_fits_can_be_used(tmp_path, key):
    def same(one, other):
        return type(one) is type(other) and one == other

    for value in VALUES:
        path = wrong(tmp_path, lambda content, value=value: content.update({key: value}))
        if any(same(value, fitting) for fitting in FITTING.get(key, [])):
            read = read_process(path)
            assert read.digest()
            for step in range(3):
                assert read.at(step, 3).isfinite().all()
            continue
        with pytest.raises(DistillationError, match=r'^model.distillers.distpro.process: '):
            attached(path)


def test_numbers_of_any_kind_that_fit_can_be_used(tmp_path):
    path = wrong(tmp_path, lambda content: content.update(
        bias=10 ** 30, length=10 ** 12, every=10 ** 12, importance=[[1, 2, 10 ** 30], [3, -4, 5e-324]],
        pathways=[dict(teacher=one, student=two, transform='conv1') for one, two in zip(
            [LEVELS[0], *LEVELS], [*LEVELS, LEVELS[1]])]))
    distiller = attached(path, length=5)
    for iteration in range(5):
        assert distiller.importance.at(iteration).isfinite().all()
        assert all(0 <= weight <= 1 for weight in distiller.importance.weights(iteration).values())


@pytest.mark.parametrize('path', ['', '.', 'none.json', 'x' * 5000, 'a\0b', '\ud800'], ids=[
    'empty', 'a folder', 'none', 'too long', 'NUL', 'half a surrogate'])
def test_a_path_that_is_none_is_one_error(tmp_path, path):
    with pytest.raises(DistillationError, match='^model.distillers.distpro.process: .*Accepted: the'):
        attached(tmp_path / path if path and '\0' not in path else path)
    with pytest.raises(DistillationError, match='was not found .*Accepted: the process.json'):
        read_process(path)


def test_bytes_that_are_no_text_are_one_error(tmp_path):
    (tmp_path / 'process.json').write_bytes(b'\xff\xfe\x00{')
    with pytest.raises(DistillationError, match='^model.distillers.distpro.process: .*is no whole JSON file'):
        attached(tmp_path / 'process.json')


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'process.json')
    for path in (tmp_path / 'process.json', '/dev/zero'):
        with pytest.raises(DistillationError, match=r'is no regular file\. Accepted: the process.json'):
            read_process(path)


def test_many_pathways_that_differ_are_not_all_listed(tmp_path):
    many = [Pathway(f't{number}', 's', 'conv1') for number in range(1000)]
    with pytest.raises(DistillationError, match='1000 pathways in the file, 3 in the config.* and 970 more') as error:
        check_members('p.json', many, PATHWAYS)
    assert len(str(error.value)) < 3000


def test_a_missing_file(tmp_path):
    with pytest.raises(DistillationError, match='none.json. was not found .*working directory .*Accepted: the process.json'):
        read_process(str(tmp_path / 'none.json'))
    with pytest.raises(DistillationError, match='is missing. Accepted: the process.json'):
        read_process(None)


def test_a_file_that_is_not_there_has_a_near_one(tmp_path):
    write_process(tmp_path / 'process.json', process())
    for wrong_path in (tmp_path / 'proces.json', tmp_path):
        with pytest.raises(DistillationError, match="was not found .* Did you mean '.*/process.json'"):
            read_process(wrong_path)


@pytest.mark.parametrize(('config', 'message'), [
    (PATHWAYS[:2], '3 pathways in the file, 2 in the config'),
    ([PATHWAYS[1], PATHWAYS[0], PATHWAYS[2]], 'the same pathways in another order'),
    ([*PATHWAYS[:2], Pathway('layer3', 'layer2', 'conv1')], 'other taps or transforms')])
def test_other_pathways_are_one_error_that_says_both_sides(config, message):
    with pytest.raises(DistillationError, match=message) as error:
        check_members('process.json', PATHWAYS, config)
    text = str(error.value)
    assert 'File: layer1 < layer1 by conv1; layer1 < layer2 by conv1; layer2 < layer2 by conv1. ' in text
    assert f'Config: {"; ".join(map(str, config))}.' in text


def test_a_pathway_map_renames_each_side_on_its_own():
    renamed = rename(PATHWAYS, dict(teacher=dict(layer1='stage1'), student=dict(layer2='b'), transform=dict(conv1='conv2')))
    assert renamed == [Pathway('stage1', 'layer1', 'conv2'), Pathway('stage1', 'b', 'conv2'),
                       Pathway('layer2', 'b', 'conv2')]
    with pytest.raises(DistillationError, match="^pathway_map.teacher.layer9: 'layer9' is no key here. Did you mean 'layer"):
        rename(PATHWAYS, dict(teacher=dict(layer9='x')))
    with pytest.raises(DistillationError, match="^pathway_map.tutor: 'tutor' is no key here.*Accepted: teacher, student, t"):
        rename(PATHWAYS, dict(tutor={}))
