"""Errors as data: the message is made of the parts, and each part is there to be asked for."""
import pickle
from pathlib import Path

import pytest
from mmengine.registry import LOOPS, PARAM_SCHEDULERS

from mmkd_plugin.utils.errors import (
    DistillationError,
    building,
    check_known_keys,
    nearest_files,
    nearest_names,
    under,
    unknown_name,
)


def test_the_message_names_path_value_problem_nearest_accepted_and_hint_in_this_order():
    error = DistillationError('is odd', path='a.b', given=3, accepted='even numbers', nearest=['2', '4'], hint='Add one.')
    assert str(error) == "a.b: 3 is odd. Did you mean '2' or '4'? Accepted: even numbers. Add one."
    parts = (error.path, error.given, error.accepted, error.nearest, error.hint)
    assert parts == ('a.b', 3, 'even numbers', ('2', '4'), 'Add one.')


def test_what_is_not_said_is_not_in_the_message():
    assert str(DistillationError(path='seed', given=None, accepted='a number')) == 'seed: None. Accepted: a number.'
    assert str(DistillationError('the run has ended')) == 'the run has ended.'


def test_whoever_builds_adds_its_key_once():
    with pytest.raises(DistillationError) as caught, under('model.distillers.mgd'), under('pairs'):
        raise DistillationError('is no pair', path='[0]', given=7)
    assert caught.value.path == 'model.distillers.mgd.pairs[0]'
    assert str(caught.value).startswith('model.distillers.mgd.pairs[0]: 7 is no pair')


def test_the_nearest_name_is_found_whatever_its_case():
    assert nearest_names('ABSOLUT_max', ['absolute_max', 'sparse']) == ['absolute_max']
    assert "Did you mean 'absolute_max'?" in str(unknown_name('reducer', 'ABSOLUT_max', ['absolute_max', 'sparse']))


def test_many_names_are_not_listed():
    assert 'Accepted' not in str(unknown_name('x', 'y', [f'name{number}' for number in range(31)]))


def test_an_unknown_key_may_have_advice_of_its_own():
    with pytest.raises(DistillationError, match="model.groups: 'groups' is no key here. Accepted: pairs. Write pairs"):
        check_known_keys('model', ['pairs', 'groups'], ['pairs'], dict(groups='Write pairs=[...].'))


def test_an_error_can_be_sent_from_one_process_to_another():
    error = DistillationError('is odd', path='a', given=lambda: 0)
    assert str(pickle.loads(pickle.dumps(error))) == f'{error}.'.replace('..', '.')


def test_a_file_that_is_not_found_is_said_with_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DistillationError, match=f'^train_dataloader: .*data/images.*The working directory is {tmp_path}'), \
            building('train_dataloader'):
        raise FileNotFoundError(2, 'No such file or directory', 'data/images')
    with pytest.raises(DistillationError, match="'/data/images'[^w]*$"), building('train_dataloader'):
        raise FileNotFoundError(2, 'No such file or directory', '/data/images')


def test_an_argument_that_a_class_does_not_take_has_a_nearest_name():
    with pytest.raises(DistillationError, match=r"^train_cfg: .*'max_iter'\)\. Did you mean 'max_iters'\?"), \
            building('train_cfg'):
        LOOPS.build(dict(type='IterBasedTrainLoop', runner=None, dataloader=None, max_iter=3))
    # What a sub-class hands on to its base, the base knows.
    with pytest.raises(DistillationError, match="Did you mean 'start_factor'"), \
            building('param_scheduler'):
        PARAM_SCHEDULERS.build(dict(type='LinearLR', optimizer=None, start_facto=3))


def test_the_nearest_file_is_told_by_its_name_and_not_by_its_folder(tmp_path):
    files = [tmp_path / 'epoch_12.pth', tmp_path / 'student.pth']
    assert nearest_files(tmp_path / 'epoch_2.pth', files) == [str(files[0])]
    assert not nearest_files(tmp_path / 'backbone_in1k.pth', files)
    # Names of configs are long, and are cut off.
    assert nearest_files(Path('mgd.py'), ['kd_r18_8xb32.py', 'mgd_r50-r18_8xb32_in1k.py', 'mgd_r50-r18_8xb32.py']) == [
        'mgd_r50-r18_8xb32.py']


def test_a_working_directory_that_is_gone_hides_no_error(tmp_path, monkeypatch):
    gone = tmp_path / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(DistillationError, match='^train_dataloader: .*data/images'), building('train_dataloader'):
        raise FileNotFoundError(2, 'No such file or directory', 'data/images')
