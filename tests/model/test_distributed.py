"""Two gloo processes on a CPU: equal matching on both ranks, and the losses of one process on the same global batch."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from resume_runs import thinned_cfg
from zoo import run

pytestmark = pytest.mark.slow  # two processes are started
WORKER = Path(__file__).parent / 'distributed_worker.py'


def launch(processes, out, worker=WORKER):
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}', str(worker),
               str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f'rank{rank}.pt', weights_only=True) for rank in range(processes)]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folders = {processes: tmp_path_factory.mktemp(f'ranks{processes}') for processes in (1, 2)}
    return {processes: launch(processes, folder) for processes, folder in folders.items()}


def test_both_ranks_hold_the_same_matching_and_weights(runs):
    first, second = runs[2]
    assert first['assignment'].tolist() == second['assignment'].tolist()
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())


def test_the_matching_is_that_of_one_process_on_all_images(runs):
    assert [set(row) for row in runs[1][0]['assignment'].tolist()] == [set(row) for row in runs[2][0]['assignment'].tolist()]


def test_costs_are_those_of_one_process_on_all_images(runs):
    # Of half of the images they would not be.
    alone = json.loads(runs[1][0]['costs'])
    for rank in runs[2]:
        assert json.loads(rank['costs']) == pytest.approx(alone, rel=1e-5)


def test_losses_agree_with_one_process_on_the_same_global_batch(runs):
    alone = json.loads(runs[1][0]['losses'])
    ranks = [json.loads(rank['losses']) for rank in runs[2]]
    assert len(alone) == 3
    for step, losses in enumerate(alone):
        for name, value in losses.items():
            mean = sum(rank[step][name] for rank in ranks) / 2
            assert mean == pytest.approx(value, rel=1e-4), (step, name)


def test_weights_agree_where_distillers_do_not_act_in_every_iteration(runs, tmp_path):
    # An adapter that no loss has reached since the last step is left alone; one that a loss has reached is not.
    alone = dict(run(thinned_cfg(tmp_path))[0].model.named_parameters())  # without DDP
    assert {name.split('.')[1] for name in alone if name.startswith('distillation')} == {'even', 'odd', 'rare', 'late'}
    for rank in (*runs[1], *runs[2]):
        for name, value in alone.items():
            torch.testing.assert_close(rank['thinned'][name], value.detach(), rtol=1e-3, atol=1e-5, msg=name)


@pytest.fixture(scope='module')
def resumed(tmp_path_factory):
    return launch(2, tmp_path_factory.mktemp('resumed'), Path(__file__).parent / 'resume_worker.py')


@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
def test_a_resumed_run_is_bit_equal_on_both_ranks(kind, resumed):
    # Both draw differently; with loader workers that live on (epochs), with gradients that are accumulated (iterations).
    assert [rank[kind]['losses'] for rank in resumed] == [True, True]
    assert [rank[kind]['differences'] for rank in resumed] == [[], []]
    first, second = (rank[kind]['statistics'] for rank in resumed)
    assert not torch.equal(first, second), 'the ranks have batch statistics of their own'


def test_epochs_of_different_lengths_are_refused_on_both_ranks(resumed):
    for rank in resumed:
        assert rank['uneven'].startswith('train_dataloader: gives the ranks epochs of different lengths: 3, 2 batches')
