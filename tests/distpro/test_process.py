"""The process file: interpolation (T5), writing, reading, and every way in which a file can be wrong."""
import json

import pytest
import torch

from mmkd_plugin.distpro.pathways import Pathway
from mmkd_plugin.distpro.process import (
    Process,
    check_pathways,
    choose_every,
    interpolate,
    read_process,
    record_positions,
    rename,
)
from mmkd_plugin.utils.errors import DistillationError

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
def test_a_file_stays_below_a_megabyte(length, pathways):
    every = choose_every(length, pathways)
    assert every == 1 or len(record_positions(length, every)) > 500
    names = [Pathway(f't{number}', 's', 'conv1') for number in range(pathways)]
    importance = -torch.rand(len(record_positions(length, every)), pathways, dtype=torch.float64) * 50
    assert len(Process(names, 'softmax', 1.0, .5, importance, length, every).to_json()) < 10 ** 6


def test_what_is_written_is_what_is_read(tmp_path):
    written = process(records=5, length=12, every=3, unit='epoch', meta=dict(seed=3, date='2022-10-23'))
    written.write(tmp_path / 'process.json')
    read = read_process(tmp_path / 'process.json', 'process')
    assert torch.equal(read.importance, written.importance)
    assert {**vars(read), 'importance': None} == {**vars(written), 'importance': None}
    assert read.digest() == written.digest()
    assert json.loads(written.to_json())['importance'][1] == [.375, .5, .625]


def wrong(tmp_path, change):
    content = json.loads(process().to_json())
    text = change(content)
    path = tmp_path / 'process.json'
    path.write_text(text if isinstance(text, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda content: content.update(version=2), r'has another version. File: 2. Accepted: 1'),
    (lambda content: content.update(format='x'), r"is not a process file. File: 'x'. Accepted: format 'mmkd.process'"),
    (lambda content: content.pop('bias'), r'lacks bias. File: .*Accepted: '),
    (lambda content: content.update(biass=1), r"biass' is not known. Did you mean 'bias'"),
    (lambda content: content['pathways'].pop(), r'record 0. File: \[0.0, 0.125, 0.25\]. Accepted: 2 finite numbers'),
    (lambda content: content['importance'].pop(), r'number of records. File: 3. Accepted: 4 \(length 4'),
    (lambda content: content.update(length=9), r'number of records. File: 4. Accepted: 9'),
    (lambda content: content['importance'][2].__setitem__(1, 'x'), r'record 2. File: .*Accepted: 3 finite numbers'),
    (lambda content: content['importance'][2].__setitem__(1, float('nan')), r'holds NaN. Accepted: finite numbers'),
    (lambda content: json.dumps(content).replace('0.125', '1e999'), r'record 0. File: .*inf.*Accepted: 3 finite numbers'),
    (lambda content: json.dumps(content)[:-40], r'is not a whole JSON file .*Was its writing interrupted'),
    (lambda content: content.update(normalisation='soft'), r"normalisation. File: 'soft'. Accepted: biased_softmax"),
    (lambda content: content.update(unit='step'), r"unit. File: 'step'. Accepted: iter, epoch"),
    (lambda content: content.update(tau='x'), r"tau. File: 'x'. Accepted: a number or null"),
    (lambda content: content.update(pathways=[1]), r'pathways. File: \[1\]. Accepted: a list of objects'),
    (lambda content: '[1]', r"is not a process file. File: 'list'")])
def test_a_broken_file_is_one_error_that_says_both_sides(tmp_path, change, message):
    with pytest.raises(DistillationError, match=message) as error:
        read_process(wrong(tmp_path, change), 'process')
    assert 'process.json' in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(DistillationError, match='process: file .*none.json.* not found .*Accepted: the process.json'):
        read_process(str(tmp_path / 'none.json'), 'process')
    with pytest.raises(DistillationError, match='process: file None not found'):
        read_process(None, 'process')


@pytest.mark.parametrize(('config', 'message'), [
    (PATHWAYS[:2], '3 pathways in the file, 2 in the config'),
    ([PATHWAYS[1], PATHWAYS[0], PATHWAYS[2]], 'the same pathways in another order'),
    ([*PATHWAYS[:2], Pathway('layer3', 'layer2', 'conv1')], 'other taps or transforms')])
def test_other_pathways_are_one_error_that_says_both_sides(config, message):
    with pytest.raises(DistillationError, match=message) as error:
        check_pathways(PATHWAYS, config, 'process')
    text = str(error.value)
    assert 'File: layer1 < layer1 by conv1; layer1 < layer2 by conv1; layer2 < layer2 by conv1.' in text
    assert f'Config: {"; ".join(map(str, config))}.' in text


def test_a_pathway_map_renames_each_side_on_its_own():
    renamed = rename(PATHWAYS, dict(teacher=dict(layer1='stage1'), student=dict(layer2='b'), transform=dict(conv1='conv2')))
    assert renamed == [Pathway('stage1', 'layer1', 'conv2'), Pathway('stage1', 'b', 'conv2'),
                       Pathway('layer2', 'b', 'conv2')]
    with pytest.raises(DistillationError, match=r"pathway_map.teacher.layer9: 'layer9' is not known"):
        rename(PATHWAYS, dict(teacher=dict(layer9='x')))
    with pytest.raises(DistillationError, match=r"pathway_map.tutor: 'tutor' is not known"):
        rename(PATHWAYS, dict(tutor={}))
