"""Every code block and command in README and docs: Python compiles, configs build, command lines fit their parsers."""
import argparse
import re
import runpy
import shlex
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pages import ROOT, blocks, commands
from zoo import build

from mmkd_plugin.cli import main as command_line
from mmkd_plugin.distiller import build_distiller
from mmkd_plugin.registry import MODELS
from mmkd_plugin.utils.config import find_config, load_config
from mmkd_plugin.utils.launch import replace_sync_bn

PYTHON = blocks('python')
CONFIGS = [block for block in PYTHON if re.search(r"^_base_ = '", block.text, re.MULTILINE)
           and 'mmkd.DistilledModel' in block.text]
PARTS = [block for block in PYTHON if block not in CONFIGS and re.match(r'\w+ ?= ?dict\(', block.text)]


def place_of(block):
    return block.place


def without_base(block):
    """What a block inherits is empty."""
    return re.sub(r'{{_base_\.\w+}}', 'dict()', block.text)


@pytest.mark.parametrize('block', PYTHON, ids=place_of)
def test_python_compiles(block):
    compile(without_base(block), block.place, 'exec')


def test_there_are_blocks_of_each_kind():
    assert len(CONFIGS) >= 7
    assert len(PARTS) >= 35


@pytest.mark.slow
@pytest.mark.parametrize('block', [block for block in CONFIGS if 'seg_student' not in block.text], ids=place_of)
def test_a_config_builds(block, tmp_path):
    (tmp_path / 'config.py').write_text(block.text)
    cfg = Config.fromfile(tmp_path / 'config.py')
    load_config(cfg.model.teacher.config, 'model.teacher.config')
    init_default_scope(cfg.default_scope)
    replace_sync_bn(cfg._cfg_dict)
    cfg.model.teacher.allow_random_weights = True
    for part in (cfg.model.student, cfg.model.student.backbone):
        part.pop('init_cfg', None)
        part.pop('pretrained', None)
    if cfg.get('data_preprocessor') is not None:
        cfg.model.student.setdefault('data_preprocessor', cfg.data_preprocessor)
    for distiller in cfg.model.distillers.values():
        if distiller.type == 'mmkd.DistProDistiller':
            distiller.mode = 'equal'  # there is no file of a search
    assert set(build(cfg.model).distillation.distillers) == set(cfg.model.distillers)


@pytest.mark.parametrize('block', PARTS, ids=place_of)
def test_the_distillers_of_a_part_build(block, monkeypatch):
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))
    if "distance='attention'" in block.text:
        runpy.run_path(str(ROOT / 'docs/examples/attention_transfer.py'))
    if 'mmkd.HuberLoss' in block.text:
        runpy.run_path(str(ROOT / 'docs/examples/huber_loss.py'))
    found = {}
    exec(compile(without_base(block), block.place, 'exec'), {}, found)
    for name, distiller in found.get('distillers', found).items():
        if isinstance(distiller, dict) and str(distiller.get('type')).startswith('mmkd.') and '...' not in block.text:
            build_distiller(name, distiller)


class Parsed(BaseException):
    """Raised where a command would begin its work."""


PLACEHOLDERS = dict(PAIR='pspnet', THREADS='1')
"""For words that a parser has to understand."""
COMMANDS = sorted({command: place for place, command in commands()}.items())
SCRIPTS = [command for command, _ in COMMANDS if re.match(r'python (tools|benchmarks)/', command)]
MMKD = [command for command, _ in COMMANDS if command.startswith('mmkd ')]
MAKE = sorted({word for command, _ in COMMANDS if command.startswith('make ') for word in command.split()[1:2]})


def words(command):
    """The arguments as a shell has them; what is optional in a synopsis counts as given."""
    plain = re.sub(r' \[([^]]*)\]', r' \1', command.split('&&')[0].replace('[,NAME]', ''))
    return [PLACEHOLDERS.get(word, word) for word in shlex.split(plain)]


@pytest.fixture
def parsing(monkeypatch):
    """Whatever is run ends as soon as its command line is read."""
    read = argparse.ArgumentParser.parse_args

    def parse_args(self, *args):
        read(self, *args)
        raise Parsed

    def invoke(self, context):
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(command_line, 'running', lambda *_: invoke(None, None))
    for command in (command_line.plot, command_line.env):
        monkeypatch.setattr(command, 'invoke', invoke.__get__(command))


@pytest.mark.parametrize('command', MMKD)
def test_a_command_fits_the_parser(command, parsing):
    arguments = words(command)[1:]
    if len(arguments) == 1 and not arguments[0].startswith('-'):  # it is named, not shown
        assert arguments[0] in command_line.mmkd.commands or arguments[0] == 'COMMAND'
    elif '--help' not in arguments:
        with pytest.raises(Parsed):
            command_line.mmkd.main(arguments, prog_name='mmkd', standalone_mode=False)


@pytest.mark.parametrize('command', SCRIPTS, ids=lambda command: command.removeprefix('python '))
def test_a_script_fits_its_parser(command, parsing, monkeypatch):
    script, *arguments = words(command)[1:]
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / script), run_name='__main__')


@pytest.mark.parametrize('target', MAKE)
def test_a_target_of_make_is_there(target):
    assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.MULTILINE)


def test_every_file_of_a_command_is_there():
    missing = []
    for command, place in COMMANDS:
        for word in words(command) if command.startswith(('mmkd ', 'python ')) else ():
            if '::' in word and '=' not in word:
                find_config(word, place)
            elif re.match(r'(configs|tools|benchmarks)/', word) and 'NAME' not in word and not (ROOT / word).exists():
                missing.append(f'{place}: {word}')
    assert missing == []
    assert len(COMMANDS) > 200
