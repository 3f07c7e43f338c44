"""Two gloo processes on a CPU: equal importance on both ranks, and that of one process on the same global batches."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distpro_runs import search_on_global_batches
from zoo import run

from mmkd_plugin.distpro import read_process

WORKER = Path(__file__).parent / 'distributed_worker.py'
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What two ranks have written."""
    out = tmp_path_factory.mktemp('ranks')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', str(WORKER), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope='module')
def ranks(folder):
    return [torch.load(folder / f'rank{rank}.pt', weights_only=True) for rank in range(2)]


def test_both_ranks_hold_the_same_importance_bit_by_bit(ranks):
    first, second = ranks
    assert torch.equal(first['importance'], second['importance'])
    assert not torch.equal(first['importance'], torch.ones(3))


def test_the_process_is_that_of_one_process_on_the_same_global_batches(folder, tmp_path):
    # Of half of the images it would not be.
    run(search_on_global_batches(tmp_path, 1))
    alone, two = (read_process(file / 'process.json').importance for file in (tmp_path, folder / 'search'))
    torch.testing.assert_close(two, alone, rtol=0, atol=2e-4)
    assert (alone[-1] - 1).abs().min() > 1e-3


def test_a_pool_of_losses_agrees_on_both_ranks(ranks):
    first, second = ranks
    assert torch.equal(first['pool'], second['pool'])
    assert (first['pool'] - 1).abs().min() > 1e-3
    assert all(torch.equal(value, second['idle'][name]) for name, value in first['idle'].items())


def test_pruned_pathways_keep_the_ranks_together(ranks):
    first, second = ranks
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())
