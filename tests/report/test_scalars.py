"""The numbers of a run: of one that was killed, resumed, counted in epochs."""
import json
import math

from made_runs import numbers, train_line

from mmkd_plugin.report.scalars import Series, last_numbers, read_scalars, summed


def write(path, lines):
    path.write_text('\n'.join(each if isinstance(each, str) else json.dumps(each) for each in lines))
    return path


def test_training_and_validation_are_told_apart(tmp_path):
    found = read_scalars([write(tmp_path / 'a', numbers())])
    assert found.train['loss'].steps == list(range(10, 101, 10))
    assert found.validation['mIoU'] == Series([30, 50, 80, 100], [40., 50., 60., 61.])
    assert (found.last('mIoU'), found.best('mIoU', False), found.best('mIoU', True)[0]) == (61., (61., 100), 40.)
    assert (found.seconds, found.waiting, found.memory, found.last_step) == (.1, .01, None, 100)


def test_what_was_trained_again_after_a_resumption_counts_as_it_is_there(tmp_path):
    first = [train_line(step, loss=1.) for step in (10, 20, 30)] + [dict(mIoU=1., step=30)]
    second = [train_line(step, loss=2.) for step in (21, 30)] + [dict(mIoU=2., step=30)]
    found = read_scalars([write(tmp_path / 'a', first), write(tmp_path / 'b', second)])
    assert found.train['loss'] == Series([10, 20, 21, 30], [1., 1., 2., 2.])
    assert found.validation['mIoU'] == Series([30], [2.])


def test_a_line_that_is_cut_off_is_counted_and_left_out(tmp_path):
    found = read_scalars([write(tmp_path / 'a', [train_line(10), '{"loss": 1.0, "it', '[1]', '[' * 5000, ''])])
    assert found.unread == 3
    assert found.train['loss'].steps == [10]


def test_a_validation_by_epochs_stands_at_its_iteration(tmp_path):
    lines = [each for epoch in (1, 2) for each in (train_line(50 * epoch, epoch=epoch), dict(top1=30. * epoch, step=epoch))]
    assert read_scalars([write(tmp_path / 'a', lines)]).validation['top1'] == Series([50, 100], [30., 60.])


def test_what_is_no_number_is_left_out_and_what_is_not_finite_is_kept(tmp_path):
    lines = [train_line(1, loss=math.nan, note='x', flag=True, other=[1]), train_line(2, loss=10 ** 400), train_line(3)]
    found = read_scalars([write(tmp_path / 'a', lines)])
    assert found.train['loss'].finite == [2.]
    assert len(found.train['loss'].values) == 3
    assert not {'note', 'flag', 'other'} & set(found.train)


def test_a_sum_has_the_steps_of_all_parts():
    assert summed([Series([1, 2, 3], [1., 2., 3.]), Series([2, 3], [10., 20.])]) == Series([2, 3], [12., 23.])
    assert summed([]) == Series()


def test_the_last_result_of_a_test_is_taken_without_its_times(tmp_path):
    files = [write(tmp_path / 'a', [dict(mIoU=1., time=2.)]),
             write(tmp_path / 'b', [dict(mIoU=3., aAcc=4., data_time=1., step=0)])]
    assert last_numbers(files) == dict(mIoU=3., aAcc=4.)
    assert last_numbers([tmp_path / 'none']) == {}
