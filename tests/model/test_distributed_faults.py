"""Two gloo ranks of which one fails, and loaders whose worker dies: all end in bounded time, and say what has happened.

``benchmarks/distributed_faults.py`` has more cases, and four ranks. Nothing fails in this process: torch's handler for
workers that have died raises wherever a process happens to be.
"""
import json
import subprocess
import sys
from pathlib import Path

import pytest
from faults import Case, Rank, wrong

pytestmark = pytest.mark.slow  # ranks are started
SCRIPT = Path(__file__).parents[1] / 'faults.py'
CASES = ['2-mgd-kill', '2-distpro-search-nan', '2-dfa-search-forward', '2-logits-fewer_batches', '2-distpro-replay-stop',
         '1-features-worker_kill', '1-mgd-worker_exit', '1-distpro-search-worker_kill', '1-dfa-search-worker_exit']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What all cases have left: they are forked from one process, which imports everything once."""
    out = tmp_path_factory.mktemp('faults')
    done = subprocess.run([sys.executable, str(SCRIPT), str(out), *CASES], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize('name', CASES)
def test_when_a_process_fails_all_end_and_the_cause_is_said(folder, name):
    case, ranks = Case.named(name), [Rank(**rank) for rank in json.loads((folder / name / 'result.json').read_text())]
    assert len(ranks) == case.ranks
    assert wrong(case, ranks) == []


def test_what_is_wrong_is_seen():
    case = Case(2, 'mgd', 'kill')
    fine = [Rank('RuntimeError: Connection closed by peer', 1.), Rank('ended by SIGKILL', 0.)]
    assert wrong(case, fine) == []
    assert len(wrong(case, [Rank('finished', 1.), fine[1]])) == 1
    assert len(wrong(case, [Rank('still running', -1), fine[1]])) == 2
    assert len(wrong(case, fine[::-1])) == 2
