"""The command line itself: help at once, and one line where something is wrong."""
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mmkd_plugin.cli.main import mmkd
from mmkd_plugin.version import __version__

ROOT = Path(__file__).resolve().parents[2]
HELP = '''
import sys
import time
import mmkd_command
for words in {commands!r}:
    sys.argv = ['mmkd', *words]
    try:
        mmkd_command.main()
    except SystemExit as end:
        assert end.code == 0, words
assert time.process_time() < 1, 'all of them'
loaded = sorted({{'torch', 'numpy', 'mmengine', 'mmcv', 'mmkd_plugin'}} & set(sys.modules))
assert not loaded, loaded
'''


def invoke(*words):
    return CliRunner().invoke(mmkd, list(words))


def test_help_of_every_command_imports_nothing_heavy():
    commands = [['--help'], *([name, '--help'] for name in mmkd.commands)]
    done = subprocess.run([sys.executable, '-c', HELP.format(commands=commands)], capture_output=True, text=True,
                          check=False, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    for name in mmkd.commands:
        assert name in done.stdout


def test_python_m_is_the_same_command():
    done = subprocess.run([sys.executable, '-m', 'mmkd_plugin', '--version'], capture_output=True, text=True, check=False,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0
    # Before that OneDL's packages print that they do without a package of theirs.
    assert done.stdout.splitlines()[-1] == f'mmkd_plugin {__version__}'


@pytest.mark.parametrize(('words', 'text'), [
    (('taps', 'none.py'), "error: config: 'none.py' was not found"),
    (('init', 'none.py', '--teacher', 'x.py'), "error: config: 'none.py' was not found"),
    (('init', 'none.py', '--teacher', 'x.py', '--method', 'mdg'), "error: --method: 'mdg' is not known. Did you mean 'mgd'"),
    (('train', 'none.py'), "error: config: 'none.py' was not found"),
    (('test', 'none.py', 'x.pth'), "error: config: 'none.py' was not found"),
    (('search', 'none.py'), "error: config: 'none.py' was not found"),
    (('plot', 'none.json'), 'error: '), (('export', 'none'), "error: WORK_DIR: 'none' is no folder"),
    (('report', 'none'), "error: WORK_DIR: 'none' is no folder"),
    (('report', '.'), "error: WORK_DIR: '.' holds no run"),
    (('report', '.', '--alone', 'none'), "error: WORK_DIR: '.' holds no run")])
def test_what_is_wrong_is_one_line(words, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.exit_code == 1
    assert done.output.strip().splitlines()[-1].startswith(text)


@pytest.mark.parametrize(('words', 'text'), [
    (['init', 'a.py'], 'error: --teacher: is missing. `mmkd init --help` has the flags.'),
    (['taps'], 'error: CONFIG: is missing. `mmkd taps --help` has the flags.'),
    (['taps', 'a.py', '--teachr', 'b.py'], "error: --teachr: is not known. Did you mean"),
    (['tap'], 'error: tap: is not known. '), (['taps', 'a.py', 'b.py'], 'error: Got unexpected extra argument (b.py). '),
    (['taps', 'a.py', '--image-size', '0', '2'], 'error: --image-size: 0 is not in the range 1<=x<=8192. '),
    (['train', 'a.py', '--launcher', 'x'], "error: --launcher: invalid choice: 'x'"),
    (['train', 'a.py', '--foo'], 'error: unrecognized arguments: --foo. `mmkd train --help` has the flags.'),
    (['search', 'a.py', '--seeds', '0'], "error: --seeds: invalid positive value: '0'. "),
    (['test', 'a.py'], 'error: the following arguments are required: checkpoint. '),
    (['check', 'a.py', '--iters', 'x'], "error: --iters: 'x' is not a valid integer"),
    (['check', 'a.py', '--cfg-options', 'x'], "error: --cfg-options: 'x'. Accepted: KEY=VALUE")], ids=' '.join)
def test_so_is_what_is_wrong_with_the_flags(words, text):
    done = invoke(*words)
    assert done.exit_code == (2 if words[0] == 'check' else 1)  # 1 are warnings there
    line, = done.output.splitlines()
    assert line.startswith(text)


def test_without_a_command_it_shows_the_commands():
    assert 'Commands:' in invoke().output


def test_overrides_are_given_as_upstream_has_them():
    words = ['a.py', '--teacher', 'b.py', '--cfg-options', 'x=1', 'y.z=2', '--method', 'kd,mgd', '--cfg-options=v=3']
    given = mmkd.commands['distill'].make_context('distill', words).params
    assert given['cfg_options'] == ('x=1', 'y.z=2', 'v=3')
    assert (given['config'], given['teacher'], given['method']) == ('a.py', 'b.py', 'kd,mgd')


@pytest.mark.parametrize('words', [['--cfg-options'], ['--cfg-options', '--method', 'kd']], ids=' '.join)
def test_overrides_of_nothing_are_an_error(words):
    with pytest.raises(click.UsageError):
        mmkd.commands['distill'].make_context('distill', ['a.py', '--teacher', 'b.py', *words])


def test_what_is_installed_is_listed():
    done = invoke('env')
    assert done.exit_code == 0, done.output
    rows = {line.split('│')[1].strip(): line for line in done.output.splitlines() if line.startswith('│')}
    rows.pop('', None)  # a row of two lines: what is missing takes more room than what is there
    assert set(rows) == {'every task', 'classification', 'segmentation', 'detection', 'pictures', 'demo'}
    assert 'torch 2' in rows['every task']
