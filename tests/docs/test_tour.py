"""docs/tour.md leads to what is there, and from a config key to its line in three hops."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'docs/tour.md').read_text()
REFERENCES = sorted(set(re.findall(r'`([a-z_/]+\.py): (\w+)`', TEXT)))


def defined(source):
    """Names of all functions and classes in a source."""
    return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize(('file', 'name'), REFERENCES)
def test_what_the_tour_names_is_there(file, name):
    assert name in defined((ROOT / 'mmkd_plugin' / file).read_text())


def test_the_tour_names_every_room():
    rooms = {path.parent.name for path in (ROOT / 'mmkd_plugin').glob('*/__init__.py')}
    assert rooms <= set(re.findall(r'`(\w+)/`', TEXT))


def test_from_a_key_to_its_line_it_is_three_hops():
    table = TEXT.split('## From a config key')[1].split('## ')[0]
    rows = [row for row in table.splitlines() if row.startswith('| `')]
    assert {row.split('`')[1] for row in rows} >= {'pairs', 'levels', 'aggregation'}
    assert all(len(row.strip('|').split('|')) == 4 for row in rows)
