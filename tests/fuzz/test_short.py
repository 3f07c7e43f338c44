"""The fuzzing suite in a short form: some inputs of each kind, the same every time, and a judge that is seen to refuse."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NUMBERS = dict(configs=55, artefacts=30, checkpoints=25, sections=25)
SEEDS = dict(configs=13)  # 12 draws a config that replays a search of other networks, which the fuzzer has no file of


def run(*arguments):
    """``python -m fuzz`` in a process of its own: it forks, which is for processes of one thread."""
    return subprocess.run([sys.executable, '-m', 'fuzz', *map(str, arguments)], cwd=REPOSITORY, text=True,
                          capture_output=True, env={**os.environ, 'PYTHONPATH': 'tests', 'OMP_NUM_THREADS': '1'})


@pytest.mark.slow
@pytest.mark.parametrize('kind', list(NUMBERS))
def test_no_input_of_a_short_run_is_a_defect(kind):
    found = run('--seed', SEEDS.get(kind, 12), '--kind', kind, '--number', NUMBERS[kind])
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert '0 defects' in found.stdout
