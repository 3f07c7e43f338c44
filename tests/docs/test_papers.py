"""docs/papers.md: every command names a config that is there, its overrides fit, and all options can be read."""
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from mmkd_plugin.distiller import build_distiller
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.launch import override
from mmkd_plugin.utils.overrides import parsed_options

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/papers.md').read_text()
COMMANDS = re.findall(r'`(python tools/(?:train|search)\.py [^`]+)`', PAGE)
OVERRIDDEN = [command for command in COMMANDS if '--cfg-options' in command]
# What an override may add; any other key (but of a schedule that is replaced) has to be there, or it is misspelt.
ADDED = re.compile(r'model\.distillers\.\w+\.')


def words(command):
    """The config of a command, and its overrides by key."""
    _, tool, config, *rest = shlex.split(command)
    changes = rest[rest.index('--cfg-options') + 1:] if '--cfg-options' in rest else []
    return tool, config, parsed_options('--cfg-options', changes) if changes else {}


@cache
def loaded(config):
    return Config.fromfile(ROOT / config)


def value(cfg, key):
    """What stands at a dotted key; a number counts items of a list."""
    for part in key.split('.'):
        cfg = cfg[int(part)] if part.isdigit() else cfg[part]
    return cfg


def name_of(command):
    """A short name for a command: its config and what it changes."""
    _, config, changes = words(command)
    return ' '.join([Path(config).stem, *(f'{key.split(".")[-1]}={change}' for key, change in changes.items())])


def test_every_row_has_a_command_or_says_that_there_is_none():
    rows = [line for line in PAGE.splitlines() if line.startswith('| ') and line.count('|') == 5
            and not line.startswith('| row')]
    assert len(rows) > 150, len(rows)
    assert [row for row in rows if '`python tools/' not in row and not row.split('|')[2].strip().startswith('none')] == []


@pytest.mark.parametrize('config', sorted({words(command)[1] for command in COMMANDS}))
def test_a_config_that_is_named_is_there_and_its_options_can_be_read(config):
    cfg = loaded(config)
    for name, distiller in cfg.model.get('distillers', {}).items():
        build_distiller(name, distiller.to_dict())


@pytest.mark.parametrize('command', OVERRIDDEN, ids=name_of)
def test_an_override_fits_and_changes_something(command):
    tool, config, changes = words(command)
    before, cfg = loaded(config), loaded(config).copy()
    override(cfg, changes, '--cfg-options')
    for key in changes:
        if not ADDED.match(key) and 'param_scheduler.' not in key:
            assert type(value(before, key)) is type(value(cfg, key)), key
    assert cfg.to_dict() != before.to_dict()
    if tool.endswith('search.py'):
        derive_search(cfg)
    for name, distiller in cfg.model.distillers.items():
        build_distiller(name, distiller.to_dict())


@pytest.mark.parametrize('command', [command for command in COMMANDS if 'tools/search.py' in command], ids=name_of)
def test_what_is_searched_describes_a_search(command):
    assert 'search' in loaded(words(command)[1])


STUDENTS = {'cifar100/wrn-28-2_200e_cifar100': 'backbone.depth=28',
            'cifar100/wrn-16-2_200e_cifar100': '.py --cfg-options model.student.backbone.widen_factor=2',
            'cinic10/shufflenet-v2-0.5x_140e_cinic10': 'backbone.widen_factor=0.5'}


@pytest.mark.parametrize(('command', 'student'), [
    pytest.param(command, student, id=name_of(command))
    for command in OVERRIDDEN for student, change in STUDENTS.items() if change in command])
def test_an_override_of_the_student_makes_it_the_one_of_that_name(command, student):
    _, config, changes = words(command)
    cfg = loaded(config).copy()
    override(cfg, changes, '--cfg-options')
    own = dict(cfg.model.student.to_dict())
    alone = loaded(f'configs/classification/{student}.py').model.to_dict()
    own['head'] = dict(own['head'], loss=alone['head']['loss'])  # its weight is part of the row
    assert own == alone
