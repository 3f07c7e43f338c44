"""Two gloo processes on a CPU, all losses of a codebase at once: the ranks stay together, and what a loss has learns."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loss_tasks import FEATURES, LOGITS
from zoo import STUDENTS

WORKER = Path(__file__).parent / 'distributed_worker.py'


@pytest.mark.slow
@pytest.mark.parametrize('scope', sorted(STUDENTS))
def test_two_ranks_train_with_every_loss(scope, tmp_path):
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', str(WORKER),
               str(tmp_path), scope]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f'{scope}_{rank}.pt', weights_only=True) for rank in range(2))
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())
    assert bool(first['memories']) == (scope == 'mmpretrain')  # that of CRD, of all images
    assert all(torch.equal(value, second['memories'][name]) for name, value in first['memories'].items())
    names = {name for task, name, _ in FEATURES + LOGITS if task == scope}
    found = {key.split('.')[0] for losses in first['losses'] for key in losses if '.loss_' in key}
    assert names <= found
    assert len(first['losses']) == 2
    assert all(torch.tensor(value).isfinite() for losses in first['losses'] for value in losses.values())
