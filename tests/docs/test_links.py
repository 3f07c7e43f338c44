"""README and docs lead to what is there: pages, their headings, pictures, files; and the site has all of them."""
import re

import pytest
from pages import FENCED, PAGES, ROOT, anchors, name_of

LINK = re.compile(r'(?<!`)!?\[[^]]*\]\(([^)\s]+)\)')
FILE = re.compile(r'(?<![\w./:-])((?:configs|tools|benchmarks|tests|docs|requirements|mmkd_plugin)/[\w./@-]+\.\w+)')


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page):
    missing = []
    for link in LINK.findall(FENCED.sub('', page.read_text())):
        place, _, anchor = link.partition('#')
        if '://' in link:
            continue
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize('page', [page for page in PAGES if page.name != 'CHANGELOG.md'], ids=name_of)
def test_every_file_that_a_page_names_is_there(page):
    text = re.sub(r'upstream `[^`]+`', '', page.read_text())
    named = {name for name in FILE.findall(text) if '...' not in name and 'NAME' not in name}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_site_has_every_page_once():
    nav = (ROOT / 'mkdocs.yml').read_text().split('\nnav:\n')[1]
    listed = re.findall(r'- ([\w./-]+\.md)$', nav, re.MULTILINE)
    made = {'index.md', 'contributing.md', 'changelog.md'}  # from the files of the root
    assert sorted(listed) == sorted(made | {str(page.relative_to(ROOT / 'docs')) for page in (ROOT / 'docs').rglob('*.md')})


def test_the_readme_leads_to_every_page():
    text = (ROOT / 'README.md').read_text()
    pages = [name_of(page) for page in sorted((ROOT / 'docs').rglob('*.md'))]
    assert [page for page in pages if f'({page}' not in text] == []


def test_the_badges_say_what_the_package_asks_for():
    project = (ROOT / 'pyproject.toml').read_text()
    lines = dict(licence=r"^license = '(.+)'", python=r"^requires-python = '(.+)'", torch=r"^dependenc.*?'torch([^']+)'")
    wanted = {name: re.search(line, project, re.MULTILINE)[1] for name, line in lines.items()}
    said = {path.stem: re.search(r'aria-label="([^"]*)"', path.read_text())[1].replace('&gt;', '>')
            for path in (ROOT / 'docs/images/badges').glob('*.svg')}
    assert said == {name: f'{name}: {value}' for name, value in wanted.items()}


def test_the_numbers_of_the_readme_are_those_of_the_results():
    results = '\n'.join(page.read_text() for page in sorted((ROOT / 'docs/results').glob('*.md')))
    rows = re.findall(r'^\| (mIoU|top-1), [^|]+\| (.+) \|$', (ROOT / 'README.md').read_text(), re.MULTILINE)
    assert len(rows) == 2
    for (_, cells), heading in zip(rows, ('## CamVid', '## CIFAR-100, 20 classes')):
        tables = '\n'.join(f'## {part}' for part in results.split('\n## ') if f'## {part}'.startswith(heading))
        for number in re.findall(r'[\d.]+', cells):
            assert re.search(rf'\| \**{re.escape(number)}\** \|', tables), number


