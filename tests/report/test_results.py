"""Stored results: what is kept of a cell, and files that were written before more than the value was kept."""
import json

import pytest

from mmkd_plugin.report import results
from mmkd_plugin.report.results import Cell, read_results, seconds_per_iteration, write_results
from mmkd_plugin.utils.errors import DistillationError


def test_values_alone_are_read_and_stay_as_they_are_beside_cells_that_know_more(tmp_path):
    path = tmp_path / 'results.json'
    path.write_text(json.dumps({'alone': {'0': 30.5}}))
    found = read_results(path)
    assert found == {'alone': {'0': Cell(30.5)}}
    found['MGD'] = {'1': Cell(34.0, 0.25, 'abc'), '2': Cell(35.0, None, 'abc')}
    write_results(path, found)
    assert json.loads(path.read_text()) == {
        'alone': {'0': 30.5}, 'MGD': {'1': {'value': 34.0, 'seconds_per_iteration': 0.25, 'commit': 'abc'},
                                      '2': {'value': 35.0, 'commit': 'abc'}}}
    assert read_results(path) == found
    assert read_results(tmp_path / 'none.json') == {}


@pytest.mark.parametrize(('content', 'complaint'), [
    ('{', 'holds no results'), ('[1]', 'holds no results'), ('{"a": 3}', 'holds no results'),
    ('{"a": {"0": "x"}}', 'a.0: .*is no result'), ('{"a": {"0": {"commit": "x"}}}', 'a.0: .*is no result'),
    ('{"a": {"0": {"value": 1, "comit": "x"}}}', "Did you mean 'commit'")])
def test_what_is_no_result_is_one_error_that_names_the_cell(tmp_path, content, complaint):
    (tmp_path / 'results.json').write_text(content)
    with pytest.raises(DistillationError, match=complaint):
        read_results(tmp_path / 'results.json')


def test_the_time_of_an_iteration_leaves_out_the_start_of_each_run_and_validations(tmp_path):
    assert seconds_per_iteration(tmp_path) is None
    for run, times in dict(a=[9.0, 0.2, 0.3], b=[8.0, 0.4]).items():  # b: gone on with after an interruption
        folder = tmp_path / run / 'vis_data'
        folder.mkdir(parents=True)
        lines = [json.dumps(dict(loss=1.0, time=time, iter=10, step=10)) for time in times]
        (folder / 'scalars.json').write_text('\n'.join([*lines, json.dumps(dict(mIoU=1.0, time=77.0, step=20))]) + '\n')
    assert seconds_per_iteration(tmp_path) == 0.3


def test_the_commit_is_that_of_the_checkout_and_says_whether_it_was_changed(monkeypatch):
    said = {'rev-parse': f'{results.ROOT}\n0123456789ab\n', 'status': ''}
    monkeypatch.setattr(results, '_git', lambda command, *_: said[command])
    assert results.commit() == '0123456789ab'
    said['status'] = ' M configs/x.py\n'
    assert results.commit() == '0123456789ab+'
    said['rev-parse'] = '/of/somebody/else\n0123456789ab\n'
    assert results.commit() is None
    monkeypatch.setattr(results, '_git', lambda *_: (_ for _ in ()).throw(FileNotFoundError('git')))
    assert results.commit() is None
