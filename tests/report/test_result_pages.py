"""Pages and pictures of results are what the stored results make, and are made anew where they are not."""
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mmkd_plugin.report.result_pages import out_of_date, result_pages, write_result_pages
from mmkd_plugin.utils.errors import DistillationError

ROOT = Path(__file__).resolve().parents[2]
TABLE = "metric = 'mIoU'\nseeds = [0]\nrows = [dict(name=name, config='x.py') for name in ('student alone', 'MGD')]\n"
PAGE = '# Results\n\nBefore.\n\n<!-- results: one -->\nold\n<!-- end -->\n\nAfter, of `<!-- results: one -->`.\n'


@pytest.fixture
def checkout(tmp_path):
    for name, text in {'benchmarks/tables/one.py': TABLE, 'docs/sub/page.md': PAGE, 'docs/other.md': 'Nothing.\n',
                       'benchmarks/results/one.json': json.dumps({'student alone': {'0': 30}, 'MGD': {'0': 34}})}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize('kind', ['.md', '.svg'])
def test_the_pages_of_the_repository_say_what_its_results_say(kind):
    drawn_by = re.search(r'^matplotlib==(\S+)$', (ROOT / 'requirements/constraints.txt').read_text(), re.MULTILINE)[1]
    if kind == '.svg' and version('matplotlib') != drawn_by:
        pytest.skip(f'the pictures of the repository are drawn by matplotlib {drawn_by}: another writes other bytes')
    assert {Path(path).suffix for path in result_pages(ROOT)} == {'.md', '.svg'}
    assert [path for path in out_of_date(ROOT) if path.endswith(kind)] == [], 'python benchmarks/render.py'


def test_every_table_with_results_stands_on_a_page():
    pages = '\n'.join(path.read_text() for path in (ROOT / 'docs').rglob('*.md'))
    stored = {path.stem for path in (ROOT / 'benchmarks/results').glob('*.json')}
    assert stored <= set(re.findall(r'^<!-- results: (\S+) -->$', pages, re.MULTILINE))


def test_a_table_and_its_picture_take_the_place_of_what_stood_there(checkout):
    assert write_result_pages(checkout) == ['docs/images/results_one.svg', 'docs/sub/page.md']
    text = (checkout / 'docs/sub/page.md').read_text()
    assert text.startswith('# Results\n\nBefore.\n\n<!-- results: one -->\n\n| | mIoU (test), mean |')
    assert '| MGD | 34.00 | - | 34.00 | +4.00 |\n\n![mIoU of each row and seed](../images/results_one.svg)' in text
    assert text.endswith('\n\n<!-- end -->\n\nAfter, of `<!-- results: one -->`.\n')
    assert not out_of_date(checkout)
    assert write_result_pages(checkout) == []


def test_times_are_drawn_where_two_rows_have_them(checkout):
    cells = {name: {'0': dict(value=value, seconds_per_iteration=value / 100)} for name, value in [
        ('student alone', 30), ('MGD', 34)]}
    (checkout / 'benchmarks/results/one.json').write_text(json.dumps(cells))
    made = result_pages(checkout)
    picture = made['docs/images/results_one_time.svg'].decode()
    assert 'seconds per iteration' in picture
    assert 'MGD' in picture
    assert '(../images/results_one_time.svg)' in made['docs/sub/page.md'].decode()


@pytest.mark.parametrize(('old', 'new', 'complaint'), [
    ('results: one', 'results: on', "Did you mean 'one'"), ('<!-- end -->\n', '', 'does not end')])
def test_a_wrong_marker_is_an_error(checkout, old, new, complaint):
    page = checkout / 'docs/sub/page.md'
    page.write_text(page.read_text().replace(old, new, 1))
    with pytest.raises(DistillationError, match=complaint):
        result_pages(checkout)


@pytest.mark.slow
def test_the_check_fails_where_a_page_differs(checkout):
    script = checkout / 'benchmarks/render.py'
    script.write_text((ROOT / 'benchmarks/render.py').read_text())
    for change, code in (('', 1), ('--write', 0)):
        if change:
            write_result_pages(checkout)
        made = subprocess.run([sys.executable, str(script), '--check'], capture_output=True, text=True)
        assert made.returncode == code
        assert ('docs/sub/page.md' in made.stderr) is bool(code)
