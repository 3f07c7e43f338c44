"""Reading checkpoints: mmengine's own open with the safety on, nothing executes."""
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from zoo import classifier, run, run_cfg

from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.files import load_weights


def test_mmengine_checkpoints_open_with_weights_only(tmp_path):
    run(run_cfg(classifier(), tmp_path, length=2))
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert checkpoint['message_hub']['log_scalars']['train/loss'].mean() > 0
    np.testing.assert_equal(checkpoint['meta']['iter'], 1)


class Ask:
    """Pickles as ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


@pytest.mark.parametrize(('owner', 'name'), [(HistoryBuffer, '__init__'), (np.ndarray, 'tofile')])
def test_getattr_reaches_nothing_but_statistics(tmp_path, owner, name):
    torch.save(dict(state_dict=dict(weight=torch.ones(1)), extra=Ask(owner, name)), tmp_path / 'bad.pth')
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(tmp_path / 'bad.pth', weights_only=True)
    with pytest.raises(DistillationError, match='is not a checkpoint that can be read safely'):
        load_weights(str(tmp_path / 'bad.pth'), 'model.teacher.checkpoint')


def test_weights_are_found_at_the_top_and_under_state_dict(tmp_path):
    weights = dict(a=torch.ones(2))
    torch.save(weights, tmp_path / 'bare.pth')
    torch.save(dict(state_dict={'module.a': torch.ones(2)}), tmp_path / 'wrapped.pth')
    for name in ('bare.pth', 'wrapped.pth'):
        assert torch.equal(load_weights(str(tmp_path / name), 'key')['a'], weights['a'])
