"""Accuracy tables as markdown, with numbers worked out by hand."""
import pytest

from mmkd_plugin.report.accuracy import Row, Table
from mmkd_plugin.report.results import Cell
from mmkd_plugin.report.tables import markdown


def results_of(**rows):
    return {name: {str(seed): Cell(value) for seed, value in enumerate(values)} for name, values in rows.items()}


def table_of(*names, **options):
    return Table([Row(name, 'x.py') for name in names], seeds=[0, 1], metric='mIoU', **options)


def test_mean_deviation_and_every_seed_stand_in_it_and_what_is_missing_is_said():
    table = table_of('a', 'b', 'c')
    table.rows[1].label = 'b | c'
    assert markdown(table, results_of(a=[1, 3], b=[5])).splitlines() == [
        '| | mIoU (test), mean | standard deviation | each seed |', '|---|---|---|---|',
        '| a | 2.00 | 1.41 | 1.00, 3.00 |', r'| b \| c | 5.00 | - | 5.00, - |', '', 'Not measured yet: c.']
    table.scale = 100
    assert r'| b \| c | 500.00 | - | 500.00, - |' in markdown(table, results_of(b=[5]))
    assert markdown(table, {}) == 'Not measured yet: a; b | c; c.'


def test_a_search_is_no_row_of_it():
    table = table_of('search', 'a')
    table.rows[0].stage = 'search'
    assert 'search' not in markdown(table, results_of(search=[1], a=[2]))


@pytest.mark.parametrize('names', [('teacher', 'student alone'), ('big', 'small')])
def test_rows_are_compared_with_the_student_alone_and_the_teacher(names):
    teacher, alone = names
    table = table_of(teacher, alone, 'MGD', 'KD', **({} if teacher == 'teacher' else dict(teacher='big', alone='small')))
    # Variances: 2 of 10 and 12, 8 of 14 and 18; so the standard error of the difference is sqrt(2 / 2 + 8 / 2).
    lines = markdown(table, {**results_of(MGD=[14, 18], KD=[10]), teacher: {'0': Cell(21)},
                             alone: {'0': Cell(10), '1': Cell(12)}}).splitlines()
    assert lines[0] == '| | mIoU (test), mean | standard deviation | each seed | over alone | gap closed |'
    assert [line.split(' | ', 4)[4] for line in lines[2:]] == [
        '+10.00 | |', '| |', '+5.00 ± 2.24 | 50 % |', '-1.00 | -10 % |']


def test_no_gap_is_closed_to_a_teacher_that_is_not_above_the_student_alone():
    lines = markdown(table_of('teacher', 'student alone', 'MGD'), {
        'teacher': {'0': Cell(1)}, 'student alone': {'0': Cell(2)}, 'MGD': {'0': Cell(3)}}).splitlines()
    assert lines[-1].endswith('| +1.00 | - |')


def test_times_and_commits_stand_there_where_they_are_known():
    text = markdown(table_of('a', 'b'), {
        'a': {'0': Cell(1.0, 0.25, 'abc'), '1': Cell(1.0, 0.35, 'abd+')}, 'b': {'0': Cell(2.0)}})
    assert '| a | 1.00 | 0.00 | 1.00, 1.00 | 0.300 |' in text
    assert '| b | 2.00 | - | 2.00, - | - |' in text
    assert text.endswith('\n\nCells of which the commit was kept: `abc`, `abd+`.')
