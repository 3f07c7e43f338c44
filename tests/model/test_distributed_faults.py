"""Two gloo ranks of which one fails: both end in bounded time, and say what has happened.

``benchmarks/distributed_faults.py`` has more cases, and four ranks.
"""
import json
import subprocess
import sys
from pathlib import Path

import pytest
from faults import Case, Rank, wrong

pytestmark = pytest.mark.slow  # ranks are started
SCRIPT = Path(__file__).parents[1] / 'faults.py'
CASES = ['2-mgd-kill', '2-distpro-search-nan', '2-dfa-search-forward', '2-logits-fewer_batches', '2-distpro-replay-stop']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What all cases have left: they are forked from one process, which imports everything once."""
    out = tmp_path_factory.mktemp('faults')
    done = subprocess.run([sys.executable, str(SCRIPT), str(out), *CASES], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize('name', CASES)
def test_when_a_rank_fails_all_end_and_the_cause_is_said(folder, name):
    ranks = [Rank(**rank) for rank in json.loads((folder / name / 'result.json').read_text())]
    assert len(ranks) == 2
    assert wrong(Case.named(name), ranks) == []


def test_what_is_wrong_is_seen():
    case = Case(2, 'mgd', 'kill')
    fine = [Rank('RuntimeError: Connection closed by peer', 1.), Rank('ended by SIGKILL', 0.)]
    assert wrong(case, fine) == []
    assert len(wrong(case, [Rank('finished', 1.), fine[1]])) == 1
    assert len(wrong(case, [Rank('still running', -1), fine[1]])) == 2
    assert len(wrong(case, fine[::-1])) == 2
