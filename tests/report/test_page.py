"""The page of a report: what stands in it, that it needs nothing else, and that nothing from a file acts in it."""
import json
import re
from html.parser import HTMLParser

import pytest
from made_runs import DISTILLED, START, STUDENT, line, make_run, numbers

from mmkd_plugin.preflight.measured import Measured, TeacherScore
from mmkd_plugin.preflight.report import Report
from mmkd_plugin.report.compare import ALONE, PLAIN, TEACHER, compare
from mmkd_plugin.report.compare import DISTILLED as ROLE
from mmkd_plugin.report.examples import Examples
from mmkd_plugin.report.page import page
from mmkd_plugin.utils.errors import DistillationError

HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(1)>"\'&{{ 7 * 7 }}'
VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}


class Page(HTMLParser):
    """A page taken apart: its tags, attributes and text; its tags have to close."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], '', []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if 'style' not in self._open:
            self.text += data

    @property
    def words(self):
        return ' '.join(self.text.split())


def page_of(*folders, **given):
    return Page(page(compare(folders, **given), Examples()))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A teacher (80), the student alone (50, 52), distilled (61, 63)."""
    folder = tmp_path_factory.mktemp('runs')
    plain = [{key: value for key, value in each.items() if not key.startswith(('mgd', 'kd'))} for each in numbers()]

    def ending(lines, last):
        return [dict(each, mIoU=last) if 'mIoU' in each and each['step'] == 100 else each for each in lines]

    make_run(folder / 'teacher', dict(STUDENT, depth=50), ending(plain, 80.))
    model = dict(DISTILLED, teacher=dict(config='teacher.py', checkpoint=str(folder / 'teacher/iter_100.pth')))
    for seed, (alone, distilled) in enumerate(((50., 61.), (52., 63.))):
        make_run(folder / f'alone{seed}', STUDENT, ending(plain, alone), seed=seed)
        make_run(folder / f'mgd{seed}', model, ending(numbers(), distilled), seed=seed)
    return folder


def test_a_page_needs_nothing_else_and_nothing_acts_in_it(runs):
    found = page_of(runs / 'mgd0', runs / 'mgd1', alone=[str(runs / 'alone0')])
    assert not {'script', 'link', 'iframe', 'object', 'base', 'form'} & set(found.tags)
    for name, value in found.attributes:
        assert not name.startswith('on')
        if name in ('src', 'href', 'xlink:href'):
            assert value.startswith(('data:', '#')), value
    assert ('content', "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in found.attributes
    assert found.tags.count('svg') >= 8


def test_the_gap_that_is_closed_is_that_of_the_means_over_seeds(runs):
    found = compare([runs / 'mgd0', runs / 'mgd1'], alone=[str(runs / 'alone0'), str(runs / 'alone1')])
    means = [(row.role, row.mean, len(row.runs)) for row in found.rows]
    assert means == [(TEACHER, 80., 1), (ALONE, 51., 2), (ROLE, 62., 2)]
    row = found.rows[-1]
    assert row.spread == pytest.approx(2 ** .5)
    assert row.gap == pytest.approx((62 - 51) / (80 - 51))
    words = Page(page(found, Examples())).words
    assert '38 %' in words
    assert '62 ± 1.4' in words
    assert '61, 63' in words


def never_validated(folder, model, metric):
    """A run that was tested and never validated, as where the validations come later than its end."""
    run = make_run(folder, model, numbers(metrics=()))
    file = run / 'test' / START / f'{START}.json'
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(dict(mIoU=metric)))
    return run


def test_runs_that_have_tests_and_no_validations_are_compared_by_their_tests(runs, tmp_path):
    alone, run = never_validated(tmp_path / 'alone', STUDENT, 20.), never_validated(tmp_path / 'mgd', DISTILLED, 29.)
    teacher = never_validated(tmp_path / 'teacher', dict(STUDENT, depth=50), 50.)
    found = compare([run], alone=[str(alone)], teacher=[str(teacher)])
    assert [row.mean for row in found.rows] == [50., 20., 29.]
    assert found.rows[-1].gap == pytest.approx(.3)
    words = Page(page(found, Examples())).words
    assert 'mIoU in the test' in words
    assert 'Compared by the tests, as not every run has a validation.' in words
    without = compare([run], alone=[str(runs / 'alone0')], teacher=[str(teacher)])  # which has no test
    assert not without.by_test
    assert without.why_no_gap == 'no distilled run has a validation, and not each run a test'


def test_each_row_has_a_colour_of_its_own_in_table_plots_and_headings(tmp_path):
    folders = [make_run(tmp_path / name, DISTILLED, numbers(), note=name) for name in ('mgd', 'kd', 'cwd')]
    alone = make_run(tmp_path / 'alone', STUDENT, numbers(), checkpoint=False)
    html = page(compare(folders, alone=[str(alone)]), Examples())
    dots = re.findall(r'class="dot" style="background: (#\w{6})"', html)
    assert dots == [*dots[:4], *dots[3::-1]]  # of the table, and of the headings, which begin with the last row
    assert len(set(dots)) == 4
    curves = html[html.index('mIoU at validations'):html.index('Task loss')]
    assert all(dot in curves for dot in dots)


def test_the_student_alone_is_recognised_by_its_model_and_another_run_is_not(runs, tmp_path):
    other = make_run(tmp_path / 'other', dict(STUDENT, depth=34), numbers())
    found = compare([runs / 'mgd0', runs / 'alone0', other])
    assert {row.role: row.label for row in found.rows} == {TEACHER: 'teacher', ALONE: 'alone0', PLAIN: 'other', ROLE: 'mgd0'}


def test_a_metric_may_be_given_as_a_number(runs):
    found = compare([runs / 'mgd0'], alone=['51'], teacher=['71'])
    assert found.rows[-1].gap == pytest.approx(.5)
    assert 'as given' in Page(page(found, Examples())).words


@pytest.mark.parametrize(('given', 'why'), [
    (dict(), 'the metric of the student alone is not known: give --alone WORK_DIR, or the number'),
    (dict(alone=['90']), 'the teacher is no better than the student alone')])
def test_where_there_is_no_gap_the_page_says_why(runs, given, why):
    assert why in page_of(runs / 'mgd0', **given).words


def test_of_an_error_less_is_better(tmp_path):
    run = make_run(tmp_path / 'depth', lines=numbers(metric='abs_rel', metrics=(.5, .3, .2, .25)))
    found = compare([run], alone=['0.35'], teacher=['0.15'])
    assert (found.metric, found.lower, found.rows[-1].best) == ('abs_rel', True, [(.2, 80)])
    assert found.rows[-1].gap == pytest.approx(.5)


def test_whatever_comes_from_a_file_is_text(tmp_path):
    model = dict(DISTILLED, distillers={HOSTILE: dict(type=HOSTILE), 'kd': dict(type='x')})
    more = {f'{HOSTILE}.loss_a': 1., f'kd.loss_{HOSTILE}': 2., f'kd.loss_$\\frac{HOSTILE}': 1., f'm{HOSTILE}.loss': 3.}
    lines = [{**each, **more} for each in numbers(metric=HOSTILE)]
    log = [line(f'model.{HOSTILE}'), line(HOSTILE, 'WARNING'),
           line(f'matching update after 3 iterations: x (0 to 4): {"".join(HOSTILE.split())} 0.5')]
    run = make_run(tmp_path / 'x<b>', model, lines, log, note=HOSTILE)
    (run / START / 'vis_data/notes.json').write_text(HOSTILE)
    found = page_of(run)
    assert not {'script', 'b'} & set(found.tags)
    assert ('src', 'x') not in found.attributes
    assert not any(name.startswith('on') for name, _ in found.attributes)
    assert '{{ 7 * 7 }}' in found.text
    assert found.text.count('<script>alert(1)</script>') >= 6


def test_a_config_is_not_executed(tmp_path):
    run = make_run(tmp_path / 'run', lines=numbers())
    (run / 'config.py').write_text(f'import pathlib\npathlib.Path({str(tmp_path / "executed")!r}).touch()\n')
    found = page_of(run)
    assert 'is no config of plain values (line 1 is no assignment)' in found.words
    assert 'import pathlib' in found.words
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize(('made', 'said'), [
    (dict(lines=None), 'the numbers of the training (vis_data/scalars.json)'),
    (dict(lines=numbers(metrics=())), 'a validation: no metric of it is known'),
    (dict(lines=numbers(), checkpoint=False), 'a checkpoint: no example pictures'),
    (dict(lines=numbers(), model=None), 'the config: there is none in the work dir'),
    (dict(lines=numbers(), length=400, checkpoint=False), 'its end: it came to iteration 100 of 400'),
    (dict(lines=[*numbers(), 3]), '1 lines of scalars.json')])
def test_what_a_run_lacks_is_said(tmp_path, made, said):
    assert said in page_of(make_run(tmp_path / 'run', **made)).words


def test_a_checkpoint_that_is_spoiled_and_a_process_that_is_none_are_said(tmp_path):
    run = make_run(tmp_path / 'run', lines=numbers())
    (run / 'iter_100.pth').write_bytes(b'spoiled')
    (run / 'process.json').write_text('{"format": "mmkd.process", "version": 9}')
    words = page_of(run).words
    assert 'the last checkpoint: ' in words
    assert 'what the search has found: ' in words


def test_why_a_short_run_has_no_numbers_is_said(tmp_path):
    hooks = dict(logger=dict(type='LoggerHook', interval=50))
    words = page_of(make_run(tmp_path / 'run', length=40, default_hooks=hooks)).words
    assert 'logged every 50 iterations (default_hooks.logger.interval), and it had 40' in words
    assert 'logged every' not in page_of(make_run(tmp_path / 'other', length=60, default_hooks=hooks)).words


CHECK = Report('x.py', measured=Measured(scores=[TeacherScore('model.teacher', 64, dict(mIoU=71.5), 11)]))


@pytest.mark.parametrize('text', [CHECK.json(), CHECK.json() + ' ' * 2 ** 20,
                                  '{"measured": {"teachers": [3, {"metrics": "x"}]}}', '{"measured": null}', '[',
                                  '{"measured": 3}'])
def test_how_good_the_check_has_found_the_teacher_is_on_the_page(tmp_path, text):
    run = make_run(tmp_path / 'run', lines=numbers())
    (run / 'check.json').write_text(text)
    assert ('model.teacher on 64 validation imagesmIoU 71.5' in page_of(run).words) == (text == CHECK.json())


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    (tmp_path / 'run' / START).mkdir(parents=True)
    assert 'the numbers of the training' in page_of(tmp_path / 'run').words


@pytest.mark.parametrize(('folder', 'problem'), [('none', 'is no folder'), ('empty', 'holds no run'),
                                                 ('x' * 300, 'no folder|cannot be')])
def test_what_is_no_run_is_one_error(tmp_path, folder, problem):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DistillationError, match=f'WORK_DIR: .*{problem}'):
        compare([tmp_path / folder])


def test_a_metric_that_no_run_has_is_one_error(runs):
    with pytest.raises(DistillationError, match="--metric: 'mIou'.* Did you mean 'mIoU'"):
        compare([runs / 'mgd0'], metric='mIou')


def test_keys_that_differ_are_listed_without_those_of_the_seed(runs, tmp_path):
    model = dict(DISTILLED, distillers=dict(DISTILLED['distillers'], kd=dict(type='mmkd.LogitsDistiller', temperature=7)))
    other = make_run(tmp_path / 'other', model, numbers(), seed=5)
    words = page_of(runs / 'mgd0', other).words
    assert 'model.distillers.kd.temperature' in words
    assert 'randomness.seed' not in words.partition('What differs')[2].partition('Config in full')[0]


def test_the_costs_of_matchings_and_what_was_decided_and_warned_of_are_shown(tmp_path):
    log = [line('matching update after 0 iterations: 8 images on this rank in 0.1 s, solved in 0.1 s; mean cost of matched '
                'channels (0 to 4): mgd.layer4 1.5'), line('distillation: mgd'), *[line('odd', 'WARNING')] * 2]
    words = page_of(make_run(tmp_path / 'run', lines=numbers(), log=log)).words
    for text in ('Mean cost of the matched channels', 'distillation: mgd', 'odd 2 times', 'Gradient beside', 'PyTorch'):
        assert text in words
