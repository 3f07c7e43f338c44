"""tools/run_matrix.py: what it reads of a run, what it runs again and what not, and that the pages show what is kept."""
import argparse
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASE = '<testcase classname="tests.mgd.test_hook" name="{}">{}</testcase>'
NMS = '<skipped message="mmcv\'s operator \'nms\' was called" />'
PASSED = f'<testsuite>{CASE.format("test_one[a]", "")}</testsuite>'
MIXED = '<testsuites><testsuite>' + ''.join(CASE.format(name, child) for name, child in {
    'test_one[a]': '', 'test_one[b]': NMS, 'test_one[c]': NMS, 'test_two': '<failure message="no&#10; where" />',
    'test_three': '<error message="fixture" />'}.items()) + '</testsuite></testsuites>'
ARGUMENTS = argparse.Namespace(no_setup=True, slow=False, again=False, rooms='', jobs=0)
HOOK = 'tests/mgd/test_hook.py: test_'


@pytest.fixture
def matrix(tmp_path, monkeypatch):
    """The script as a module; its corners run no tests, and their results lie in a folder of their own."""
    spec = importlib.util.spec_from_file_location('run_matrix', ROOT / 'tools/run_matrix.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'WORK', tmp_path)
    monkeypatch.setattr(module, 'RESULTS', tmp_path / 'results.json')
    monkeypatch.setattr(module, 'rooms', lambda: dict(mgd=['tests/mgd/a.py'], dfa=['tests/dfa/b.py']))
    monkeypatch.setattr(module, 'versions', lambda name: dict(python='3.10.13', torch='2.1.2', mmcv='2.1.0 (mmcv-lite)'))
    monkeypatch.setattr(module, 'commit', lambda: 'abc')
    monkeypatch.setattr(module, 'changes', lambda: '')
    return module


@pytest.fixture
def ran(matrix, monkeypatch):
    """The rooms that were run; ``ran.xml`` is what pytest leaves, None where it dies."""
    class Ran(list):
        xml = PASSED

    ran = Ran()

    def run_room(name, files, target, slow, jobs):
        ran.append(target.stem)
        if ran.xml:
            target.write_text(ran.xml)

    monkeypatch.setattr(matrix, 'run_room', run_room)
    return ran


def test_what_pytest_leaves_is_read(matrix, tmp_path):
    (tmp_path / 'mgd.xml').write_text(MIXED)
    skipped = "mmcv's operator 'nms' was called"
    assert list(matrix.outcomes(tmp_path / 'mgd.xml')) == [
        (f'{HOOK}one[a]', 'passed', ''), (f'{HOOK}one[b]', 'skipped', skipped), (f'{HOOK}one[c]', 'skipped', skipped),
        (f'{HOOK}two', 'failed', 'no'), (f'{HOOK}three', 'failed', 'fixture')]


def test_what_has_run_is_not_run_again_until_the_code_changes(matrix, ran, monkeypatch):
    assert matrix.run_corner('oldest', ARGUMENTS)
    assert matrix.run_corner('oldest', ARGUMENTS)
    assert ran == ['mgd', 'dfa']
    monkeypatch.setattr(matrix, 'changes', lambda: '+a line')
    assert matrix.run_corner('oldest', ARGUMENTS)
    assert ran == ['mgd', 'dfa'] * 2


def test_a_run_that_was_interrupted_goes_on(matrix, ran):
    ran.xml = None
    assert not matrix.run_corner('oldest', ARGUMENTS)
    assert not matrix.RESULTS.exists()
    ran.xml = PASSED
    assert matrix.run_corner('oldest', ARGUMENTS)
    assert ran == ['mgd', 'mgd', 'dfa']


def test_the_result_has_the_counts_and_the_names(matrix, ran):
    ran.xml = MIXED
    assert not matrix.run_corner('oldest', ARGUMENTS)
    kept = json.loads(matrix.RESULTS.read_text())['oldest']
    assert (kept['passed'], kept['commit'], kept['versions']['torch']) == (2, 'abc', '2.1.2')
    assert kept['failed'] == dict(no=[f'{HOOK}two'] * 2, fixture=[f'{HOOK}three'] * 2)
    page = '<!-- matrix: table -->\n<!-- end -->\n<!-- matrix: named -->\nold\n<!-- end -->\n'
    page = matrix.rendered(page, dict(oldest=kept))
    assert '| oldest | 3.10.13 | 2.1.2 | - | - | 2.1.0 (mmcv-lite) | not slow | 2 | 4 | 4 | ' in page
    assert f"**oldest**, skipped: mmcv's operator 'nms' was called\n\n* `{HOOK}one` (4 cases)" in page
    assert 'old\n' not in page


def test_what_has_failed_is_run_again_alone_and_the_result_says_at_which_commits(matrix, ran, monkeypatch):
    monkeypatch.setattr(matrix, 'rooms', lambda: dict(mgd=['tests/mgd/test_hook.py']))
    with pytest.raises(SystemExit, match='not been run whole'):
        matrix.run_failed('oldest', ARGUMENTS)
    ran.xml = MIXED
    matrix.run_corner('oldest', ARGUMENTS)
    asked = []
    again = ''.join(CASE.format(*case) for case in (('test_two[of one]', ''), ('test_two[of two]', ''), ('test_three', NMS)))

    def run_room(name, files, target, slow, jobs):
        asked.extend(files)
        target.write_text(f'<testsuite>{again}</testsuite>')

    monkeypatch.setattr(matrix, 'commit', lambda: 'def')
    monkeypatch.setattr(matrix, 'run_room', run_room)
    assert matrix.run_failed('oldest', ARGUMENTS)
    assert asked == ['tests/mgd/test_hook.py::test_three', 'tests/mgd/test_hook.py::test_two']
    kept = json.loads(matrix.RESULTS.read_text())['oldest']
    assert (kept['passed'], kept['failed'], sum(map(len, kept['skipped'].values()))) == (3, {}, 3)
    assert kept['tests'] == 'not slow, at abc; the 2 that failed, again at def'
    monkeypatch.setattr(matrix, 'versions', lambda name: dict(torch='2.2'))
    with pytest.raises(SystemExit, match='other packages'):
        matrix.run_failed('oldest', ARGUMENTS)


def test_where_nothing_has_failed_nothing_runs_again_and_the_result_stays(matrix, ran):
    matrix.run_corner('oldest', ARGUMENTS)
    kept = matrix.RESULTS.read_text()
    assert matrix.run_failed('oldest', ARGUMENTS)
    assert ran == ['mgd', 'dfa']
    assert matrix.RESULTS.read_text() == kept


def test_a_test_that_does_not_come_to_its_end_again_is_an_error(matrix, ran):
    ran.xml = MIXED
    matrix.run_corner('oldest', ARGUMENTS)
    ran.xml = PASSED
    with pytest.raises(SystemExit, match='not each test'):
        matrix.run_failed('oldest', ARGUMENTS)


def test_every_corner_has_its_file(matrix):
    files = {path.stem for path in (ROOT / 'requirements/matrix').glob('*.txt')}
    assert files == set(matrix.CORNERS) - {'pinned'}


@pytest.mark.parametrize('page', ['README.md', 'docs/versions.md'])
def test_the_pages_show_what_is_kept(matrix, page):
    results = json.loads((ROOT / 'requirements/matrix/results.json').read_text())
    text = (ROOT / page).read_text()
    assert '<!-- matrix: table -->' in text
    assert matrix.rendered(text, results) == text
