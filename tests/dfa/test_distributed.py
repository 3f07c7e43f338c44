"""Two gloo processes: the same beta on both ranks, that of one process on the same global batches."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).parent / 'distributed_worker.py'
pytestmark = pytest.mark.slow


def launch(processes, out, *gammas):
    """What every rank is left with; 0 processes: one, without DDP."""
    torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    command = [sys.executable, *(torchrun if processes else []), str(WORKER), str(out), *map(str, gammas)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f'rank{rank}.pt', weights_only=True) for rank in range(max(processes, 1))]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    return {processes: launch(processes, tmp_path_factory.mktemp(f'ranks{processes}')) for processes in (1, 2)}


def test_both_ranks_hold_the_same_beta_and_weights(runs):
    first, second = runs[2]
    assert all(torch.equal(one, other) for one, other in zip(first['betas'], second['betas']))
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())


def test_beta_and_losses_are_those_of_one_process_on_the_same_batches(runs):
    alone, ranks = runs[1][0], runs[2]
    for one, other in zip(alone['betas'], ranks[0]['betas']):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert alone['betas'][0].std() > 1e-3, 'beta has moved'
    for step, losses in enumerate(json.loads(alone['losses'])):
        for name, value in losses.items():
            mean = sum(json.loads(rank['losses'])[step][name] for rank in ranks) / 2
            assert mean == pytest.approx(value, rel=1e-3), (step, name)


def test_both_ranks_find_the_same_balance(tmp_path):
    first, second = launch(2, tmp_path, 'auto', 1)
    assert first['gamma_st'] == second['gamma_st'] != 1
    assert all(torch.equal(one, other) for one, other in zip(first['betas'], second['betas']))


@pytest.mark.parametrize('gammas', [(1, 0), (0, 1), (1, 1)])
def test_P12_what_no_path_reaches_stands_still_under_DDP_too(tmp_path, gammas):
    """Zeros for a gradient would let weight decay and momentum move it."""
    (plain,), (ddp,) = (launch(processes, tmp_path / str(processes), *gammas) for processes in (0, 1))
    assert all(torch.equal(value, ddp['weights'][name]) for name, value in plain['weights'].items())
