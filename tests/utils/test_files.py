"""Reading checkpoints: mmengine's own open with the safety on; nothing executes, no file says how much memory is taken."""
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from zoo import classifier, distilled, run, run_cfg

from mmkd_plugin.utils.checkpoint_files import UNREADABLE, open_checkpoint
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.files import load_weights


def test_mmengine_checkpoints_open_with_the_safety_on(tmp_path):
    run(run_cfg(classifier(), tmp_path, length=6))
    path = tmp_path / 'epoch_1.pth'
    for checkpoint in (open_checkpoint(path), CheckpointLoader.load_checkpoint(str(path))):
        losses = checkpoint['message_hub']['log_scalars']['train/loss']
        assert type(losses) is HistoryBuffer
        assert type(losses.data[0]) is np.ndarray
        assert len(losses.data[0]) == 3
        assert losses.mean() > 0
        assert checkpoint['meta']['iter'] == 3


@pytest.mark.parametrize('value', [
    np.arange(6, dtype=np.int32).reshape(2, 3), np.asfortranarray(np.random.RandomState(0).rand(3, 4)),
    np.array(['cat', 'doge']), np.array([True, False]), np.zeros((0, 3), np.float32), np.float32(1.5), np.int64(-3),
    np.array(2.5, '>f8')], ids=repr)
def test_arrays_and_numbers_of_numpy_are_what_they_were(tmp_path, value):
    torch.save(dict(value=value, again=[value, (value,)]), tmp_path / 'x.pth')
    content = open_checkpoint(tmp_path / 'x.pth')
    for found in (content['value'], content['again'][0], content['again'][1][0]):
        np.testing.assert_array_equal(found, value)
        assert type(found) is type(value)
        assert found.dtype == value.dtype


def test_torch_load_itself_is_left_as_it_is(tmp_path):
    torch.save(dict(value=np.zeros(3)), tmp_path / 'x.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'x.pth', weights_only=True)


class Call:
    """Pickles as a call of something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    """Pickles as an object of a class with a state of its own."""

    def __init__(self, kind, state):
        self.kind, self.state = kind, state

    def __reduce__(self):
        return self.kind, (), self.state


CRAFTED = dict(
    getattr_init=Call(getattr, HistoryBuffer, '__init__'), getattr_tofile=Call(getattr, np.ndarray, 'tofile'),
    system=Call(eval, '1 + 1'), ndarray_of_pointers=Call(np.ndarray, (1,), 'O', b'A' * 8),
    ndarray_without_end=Call(np.ndarray, (2 ** 30,), 'O'), dtype_of_objects=Call(np.dtype, 'O'),
    dtype_with_fields=Call(np.dtype, [('a', 'f8')]), history_of_text=State(HistoryBuffer, dict(
        _log_history='AAAA', _count_history='AAAA', max_length=3, statistics_methods=dict(min=len))),
    history_from_arguments=Call(HistoryBuffer, [1.], [1]), array_of_too_few_bytes=State(
        np.ndarray, (1, (2 ** 40,), np.dtype('f8'), False, b'12345678')))


@pytest.mark.parametrize('name', CRAFTED)
def test_a_crafted_file_is_refused_and_changes_nothing(tmp_path, name):
    torch.save(dict(state_dict=dict(weight=torch.ones(1)), extra=CRAFTED[name]), tmp_path / 'bad.pth')
    statistics = dict(HistoryBuffer._statistics_methods)
    with pytest.raises(UNREADABLE):
        open_checkpoint(tmp_path / 'bad.pth')
    with pytest.raises(UNREADABLE):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'))
    with pytest.raises(DistillationError, match='model.teacher.checkpoint: .*is not a checkpoint that can be read safely'):
        load_weights(str(tmp_path / 'bad.pth'), 'model.teacher.checkpoint')
    assert HistoryBuffer._statistics_methods == statistics


def test_a_crafted_file_takes_no_memory_and_ends_no_process(tmp_path):
    """In a process of its own: before, the first crashed it and the second took 8.7 GB."""
    for name in ('ndarray_of_pointers', 'ndarray_without_end', 'array_of_too_few_bytes'):
        torch.save(dict(state_dict=dict(weight=torch.ones(1)), extra=CRAFTED[name]), tmp_path / f'{name}.pth')
    code = textwrap.dedent(f"""
        import resource, sys
        import mmkd_plugin
        from mmkd_plugin.utils.files import load_weights
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name in ('ndarray_of_pointers', 'ndarray_without_end', 'array_of_too_few_bytes'):
            try:
                load_weights('{tmp_path}/' + name + '.pth', 'key')
            except mmkd_plugin.DistillationError:
                print('refused')
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)""")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *refused, kilobytes = done.stdout.split()
    assert refused == ['refused'] * 3
    assert int(kilobytes) < 100_000


@pytest.mark.parametrize('model', [
    classifier(), distilled(classifier(), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4']))],
    ids=['plain', 'distilled'])
def test_resuming_executes_nothing_that_stands_in_the_checkpoint(tmp_path, model):
    run(run_cfg(model, tmp_path, epochs=2, length=2))
    path, proof = tmp_path / 'epoch_1.pth', tmp_path / 'executed'
    content = open_checkpoint(path)
    text = content['meta']['cfg' if 'cfg' in content['meta'] else 'config']
    assert 'model' in text, 'mmengine keeps the text of the config'
    for key in ('config', 'cfg'):
        content['meta'][key] = f'import pathlib\npathlib.Path({str(proof)!r}).touch()'
    torch.save(content, path)
    _, losses = run(run_cfg(model, tmp_path, epochs=2, length=2, load_from=str(path), resume=True))
    assert len(losses) == 1
    assert not proof.exists()


def test_weights_are_found_at_the_top_and_under_state_dict(tmp_path):
    weights = dict(a=torch.ones(2))
    torch.save(weights, tmp_path / 'bare.pth')
    torch.save(dict(state_dict={'module.a': torch.ones(2)}), tmp_path / 'wrapped.pth')
    for name in ('bare.pth', 'wrapped.pth'):
        assert torch.equal(load_weights(str(tmp_path / name), 'key')['a'], weights['a'])
