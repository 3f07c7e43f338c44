"""Reading checkpoints: mmengine's own open with the safety on; nothing executes, no file says how much memory is taken."""
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from zoo import classifier, distilled, run, run_cfg

from mmkd_plugin.utils.checkpoint_files import open_checkpoint, why_spoiled
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.files import load_weights, whole_file, write_whole


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
        assert found.dtype == value.dtype.newbyteorder('=')  # as numpy reads it


def test_torch_load_itself_is_left_as_it_is(tmp_path):
    torch.save(dict(value=np.zeros(3)), tmp_path / 'x.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'x.pth', weights_only=True)


@pytest.mark.parametrize('layout', ['zip', 'before-1.6'])
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_files_of_every_layout_hold_what_was_written(tmp_path, layout, protocol):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    weight = model[0].weight
    written = dict(state_dict=model.state_dict(), parameter=weight, part=torch.rand(4, 6).t()[1:], empty=torch.zeros(0),
                   half=torch.ones(2, dtype=torch.bfloat16), device=torch.device('cuda', 0), size=torch.Size([1, 2]),
                   numbers=[1, -1, 2 ** 70, 1.5, True, None], text='\u00e9', data=b'\xff', names={'a', 'b'},
                   kind=torch.float16)
    path = tmp_path / 'x.pth'
    torch.save(written, path, _use_new_zipfile_serialization=layout == 'zip', pickle_protocol=protocol)
    read = open_checkpoint(path)
    assert read['state_dict']._metadata == written['state_dict']._metadata
    for name, value in written.pop('state_dict').items():
        assert torch.equal(read['state_dict'][name], value)
    assert read['state_dict']['0.weight'].data_ptr() == read['parameter'].data_ptr(), 'what was shared is shared'
    for name in ('parameter', 'part', 'empty', 'half'):
        value = written.pop(name)
        assert torch.equal(read[name], value)
        assert (read[name].dtype, read[name].stride(), type(read[name])) == (value.dtype, value.stride(), type(value))
        assert read[name].requires_grad == value.requires_grad
    assert {name: read[name] for name in written} == written
    assert why_spoiled(path) is None


def test_places_are_as_torch_load_has_them(tmp_path):
    torch.save(dict(x=torch.ones(2)), tmp_path / 'x.pth')
    for place, kind in (('meta', 'meta'), (torch.device('meta'), 'meta'), (None, 'cpu'), ({'cpu': 'meta'}, 'meta'),
                        (lambda storage, location: storage, 'cpu'), (lambda storage, location: None, 'cpu')):
        assert open_checkpoint(tmp_path / 'x.pth', place)['x'].device.type == kind


def spoil(data, how):
    middle = len(data) // 2
    return dict(empty=b'', cut=data[:middle], short=data[:-1], zeros=bytes(len(data)), text=b'<html>' * 50,
                bit=data.replace(b'\x00\x00\x80\x3f', b'\x00\x00\x81\x3f', 1),
                hole=data[:-600] + bytes(300) + data[-300:])[how]


@pytest.mark.parametrize(('how', 'words'), [
    ('empty', 'it is empty'), ('cut', 'it is cut off'), ('short', 'it is cut off'), ('zeros', 'it begins with zeros'),
    ('text', 'it begins with .*as no file of torch.save does'), ('bit', 'is not what was written .by its checksum.'),
    ('hole', 'is (spoiled|not where it should be|not what was written)')])
def test_a_spoiled_file_is_said_to_be_so(tmp_path, how, words):
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1000), b=torch.ones(3))), path)
    assert why_spoiled(path) is None
    path.write_bytes(spoil(path.read_bytes(), how))
    assert re.search(words, why_spoiled(path))
    with pytest.raises(DistillationError, match=f"x.pth' is not a checkpoint that is whole: .*{words}.*interrupted"):
        CheckpointLoader.load_checkpoint(str(path))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'x.pth')
    for path in (tmp_path / 'x.pth', '/dev/zero', tmp_path):
        assert why_spoiled(path) == 'it is no regular file'
        with pytest.raises(DistillationError, match='it is no regular file'):
            open_checkpoint(path)
    assert why_spoiled(tmp_path / 'none.pth') == 'cannot be read (No such file or directory)'


def test_what_fails_while_it_is_written_leaves_the_old_file(tmp_path):
    path = tmp_path / 'new' / 'x.json'
    write_whole(path, 'old')

    def fail():
        with whole_file(path) as file:
            file.write(b'new')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == 'old'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('name', ['', '.', 'folder', 'file/x', 'a\0b', 'x' * 300],
                         ids=['empty', 'dot', 'folder', 'in-a-file', 'NUL', 'too-long'])
def test_what_cannot_be_written_is_one_error(tmp_path, name):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').touch()
    with pytest.raises(DistillationError, match='is no name of a file|cannot be written'):
        write_whole(tmp_path / name if name not in ('', '.') else Path(name), 'text')
    assert sorted(file.name for file in tmp_path.iterdir()) == ['file', 'folder']


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
