"""Reading checkpoints beside what users bring: registered classes, schemes of their own, odd schedules and files."""
import pickle
import re
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from crafted import STORED, Call, raw, tensor_of, weights
from mmengine.optim import OneCycleLR, OneCycleParamScheduler
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn
from zoo import Stop, classifier, distilled, run, run_cfg

from mmkd_plugin.utils import checkpoint_files
from mmkd_plugin.utils.checkpoint_files import open_checkpoint, why_spoiled
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.torch_versions import weights_only_is_safe

SAFE = pytest.mark.skipif(not weights_only_is_safe(), reason='what is registered is read with torch 2.6 or later')
LEGACY_START = (0x1950a86a20f9469cfc6c, 1001)


@dataclass
class Note:
    """A class of a user."""
    text: str


@dataclass
class Other:
    """Another one, which they have not registered."""
    text: str


def test_an_empty_tensor_goes_where_the_function_says(tmp_path):
    on_cuda = tensor_of(0, (0,)).replace(b'X\x03\x00\x00\x00cpu', b'X\x06\x00\x00\x00cuda:0')
    raw(tmp_path / 'x.pth', weights(on_cuda), {'data/0': b''})
    places = []

    def place(storage, location):
        places.append(location)
        return storage

    loaded = open_checkpoint(tmp_path / 'x.pth', place)['state_dict']['weight']
    assert (loaded.device.type, loaded.numel(), places) == ('cpu', 0, ['cuda:0'])


@pytest.mark.parametrize('tensors', [1, 2], ids=['in-place-of-the-first', 'in-place-of-both'])
def test_a_file_that_begins_with_tensors_is_spoiled(tmp_path, tensors):
    """In place of the numbers that the layout before torch 1.6 begins with."""
    tensor = b'\x80\x02' + tensor_of(4, (4,)) + b'.'
    numbers = [pickle.dumps(number, 2) for number in (*LEGACY_START, {})]
    (tmp_path / 'x.pth').write_bytes(b''.join([*[tensor] * tensors, *numbers[tensors:]]))
    assert why_spoiled(tmp_path / 'x.pth').startswith('it begins as a file of torch before 1.6 does')
    with pytest.raises(DistillationError, match='is not a checkpoint that is whole: it begins as a file of torch'):
        open_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize('keys', [[['0']], [None], '0', {'0': 1}], ids=['a-list', 'nothing', 'text', 'a-dict'])
def test_names_of_storages_that_are_none_are_refused(tmp_path, keys):
    parts = [*(pickle.dumps(part, 2) for part in (*LEGACY_START, {})), weights(tensor_of(4, (4,))), pickle.dumps(keys, 2)]
    (tmp_path / 'x.pth').write_bytes(b''.join(parts))
    with pytest.raises(DistillationError, match='it has other storages than it asks for'):
        open_checkpoint(tmp_path / 'x.pth')


def test_why_a_file_is_spoiled_is_always_a_text(tmp_path):
    assert why_spoiled('a\0b').startswith('cannot be read (ValueError: ')
    raw(tmp_path / 'x.pth', weights(tensor_of(4, (4,))), STORED)
    assert why_spoiled(tmp_path / 'x.pth') is None


@SAFE
@pytest.mark.parametrize('name', ['Note', 'written-as'])
@pytest.mark.parametrize('layout', ['zip', 'legacy'])
def test_what_a_user_has_registered_is_loaded_by_torch(tmp_path, name, layout):
    content = dict(state_dict=OrderedDict(weight=torch.ones(2)), note=Note('mine'))
    torch.save(content, tmp_path / 'x.pth', _use_new_zipfile_serialization=layout == 'zip')
    with pytest.raises(DistillationError, match='can be read safely: it asks for .*Note'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))
    registered = Note if name == 'Note' else (Note, f'{Note.__module__}.Note')
    with torch.serialization.safe_globals([registered]):
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'), map_location='cpu')
        assert loaded['note'] == Note('mine')
        assert torch.equal(loaded['state_dict']['weight'], torch.ones(2))
        assert load_checkpoint(nn.Linear(2, 1), str(tmp_path / 'x.pth'))['note'] == Note('mine')
    with pytest.raises(DistillationError, match='it asks for .*Note'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))


@SAFE
def test_nothing_else_is_loaded_with_what_a_user_has_registered(tmp_path):
    proof = tmp_path / 'executed'
    torch.save(dict(note=Note('mine'), other=Other('theirs')), tmp_path / 'other.pth')
    torch.save(dict(note=Note('mine'), harm=Call(open, str(proof), 'w')), tmp_path / 'harm.pth')
    torch.save(dict(harm=Call(open, str(proof), 'w'), note=Note('mine')), tmp_path / 'harm-first.pth')
    with torch.serialization.safe_globals([Note]):
        for name in ('other', 'harm', 'harm-first'):
            with pytest.raises(DistillationError, match=f"{name}.pth' is not a checkpoint that can be read safely: "):
                open_checkpoint(tmp_path / f'{name}.pth')
    assert not proof.exists()


def test_before_torch_2_6_what_is_registered_is_refused_and_the_error_says_so(tmp_path, monkeypatch):
    """There ``torch.load(weights_only=True)`` can be made to execute what is in a file."""
    monkeypatch.setattr(torch, '__version__', '2.5.1+cu124')
    monkeypatch.setattr(checkpoint_files, 'safe_globals', lambda: [Note])
    monkeypatch.setattr(torch, 'load', lambda *_, **__: pytest.fail('torch.load was called'))
    torch.save(dict(note=Note('mine')), tmp_path / 'x.pth')
    with pytest.raises(DistillationError, match=r'Note, which is registered; .* torch 2\.6 or later only, and this is 2\.5'):
        open_checkpoint(tmp_path / 'x.pth')


@SAFE
def test_what_torch_registers_for_itself_is_not_taken_for_a_users(tmp_path):
    # Each torch has others.
    own = [entry for entry in torch.serialization.get_safe_globals() if entry.__module__.startswith('torch.')]
    assert own
    for entry in own:
        torch.save(dict(x=Call(entry, 1)), tmp_path / 'x.pth')
        with pytest.raises(DistillationError, match=re.escape(f'it asks for {entry.__module__}.{entry.__qualname__}')):
            open_checkpoint(tmp_path / 'x.pth')


@pytest.fixture
def own_scheme(monkeypatch):
    """Contents that a user's own loader returns, by name."""
    contents = {}
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    CheckpointLoader.register_scheme(prefixes='own://', loader=lambda name, map_location: contents[name])
    return contents


@pytest.mark.parametrize('content', [[1, 2], {0: torch.ones(1)}, dict(state_dict=[1])],
                         ids=['a-list', 'numbers', 'no-weights'])
def test_what_a_users_own_scheme_returns_is_returned(own_scheme, content):
    own_scheme['own://x'] = content
    assert CheckpointLoader.load_checkpoint('own://x') is content


def test_a_checkpoint_that_is_no_dict_is_mmengines_error(tmp_path):
    torch.save([torch.ones(1)], tmp_path / 'x.pth')
    with pytest.raises(RuntimeError, match='No state_dict found in checkpoint file') as error:
        load_checkpoint(nn.Linear(1, 1), str(tmp_path / 'x.pth'))
    assert not isinstance(error.value, DistillationError)


@pytest.mark.parametrize('content', [[torch.ones(1)], dict(state_dict=[torch.ones(1)]), {5: torch.ones(1)}],
                         ids=['a-list', 'no-names', 'a-number-as-name'])
def test_a_distilled_student_begins_with_weights_by_name(tmp_path, content):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(DistillationError, match=r"^load_from: '.*x\.pth' is not a checkpoint: no weights"):
        run(run_cfg(distilled(classifier()), tmp_path / 'run', length=2, load_from=str(tmp_path / 'x.pth')))


@pytest.mark.parametrize('protocol', [2, 4])
def test_the_functions_of_a_schedule_are_mmengines(tmp_path, protocol):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.)
    for strategy, function in (('cos', OneCycleLR._annealing_cos), ('linear', OneCycleLR._annealing_linear)):
        schedule = OneCycleLR(optimizer, eta_max=1., total_steps=10, anneal_strategy=strategy)
        torch.save(schedule.state_dict(), tmp_path / 'x.pth', pickle_protocol=protocol)
        assert open_checkpoint(tmp_path / 'x.pth')['anneal_func'] is function


@pytest.mark.parametrize('value', [
    Call(getattr, OneCycleParamScheduler, '_get_value'), Call(OneCycleLR._annealing_cos, 1., 2., .5),
    OneCycleParamScheduler, {OneCycleLR._annealing_cos: 1}], ids=['another-attribute', 'a-call', 'the-class', 'a-key'])
def test_no_file_calls_a_function_of_a_schedule_or_names_another(tmp_path, value):
    torch.save(dict(x=value), tmp_path / 'x.pth')
    with pytest.raises(DistillationError, match='is not a checkpoint that can be read safely: '):
        open_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize('model', [
    classifier(), distilled(classifier(), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4']))],
    ids=['plain', 'distilled'])
def test_a_run_with_one_cycle_of_rates_is_resumed_bit_equal(tmp_path, model):
    def cfg(folder, **options):
        cycle = dict(type='OneCycleLR', eta_max=.05, total_steps=4, by_epoch=False, begin=0, end=4)
        return run_cfg(model, tmp_path / folder, epochs=2, length=4, param_scheduler=[cycle], **options)

    whole, losses = run(cfg('whole'))
    run(cfg('half'), before=lambda runner: runner.register_hook(Stop(epoch=1)))
    resumed, later = run(cfg('half', resume=True))
    assert later == losses[2:]
    assert later
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
