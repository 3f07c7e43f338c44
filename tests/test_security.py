"""Files from anywhere: what docs/security.md says. Nothing executes, little memory is taken, honest files pass."""
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from crafted import EXECUTING, NAMES, Call, raw, touch, write
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from zoo import build, classifier, distilled, loader, run, run_cfg

from mmkd_plugin.cli.main import flags_of_test
from mmkd_plugin.cli.test import test as run_test
from mmkd_plugin.utils.checkpoint_files import open_checkpoint
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.torch_versions import safe_globals

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/security.md'


@pytest.fixture(scope='module')
def honest(tmp_path_factory):
    """The checkpoint of a short training of a classifier, after 2 of 4 iterations."""
    folder = tmp_path_factory.mktemp('honest')
    run(run_cfg(classifier(), folder, epochs=2, length=4))
    return folder / 'epoch_1.pth'


def resume(path, folder):
    """What `tools/train.py --resume` does, from this file."""
    return run(run_cfg(classifier(), folder, epochs=2, length=4, load_from=str(path), resume=True))[1]


def load_from(path, folder):
    """A training that begins with the weights of this file."""
    return run(run_cfg(classifier(), folder, length=4, load_from=str(path)))[1]


def teacher(path, folder):
    """A student whose teacher has the weights of this file."""
    return build(distilled(classifier(), classifier(), dict(checkpoint=str(path)))).distillation


def test_script(path, folder):
    """`mmkd test CONFIG FILE`, which `tools/test.py` calls too, in this process."""
    cfg = run_cfg(classifier(), folder, test_cfg=dict(), test_dataloader=loader('mmpretrain', 2, shuffle=False),
                  test_evaluator=dict(type='Accuracy', _scope_='mmpretrain'))
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / 'config.py')
    run_test(flags_of_test().parse_args([str(folder / 'config.py'), str(path), '--work-dir', str(folder)]))
    return True


test_script.__test__ = False  # a door, not a test
DOORS = dict(resume=resume, load_from=load_from, teacher=teacher, test=test_script)


@pytest.mark.parametrize('door', DOORS)
def test_an_honest_checkpoint_passes_every_door(honest, tmp_path, door):
    assert DOORS[door](honest, tmp_path / 'run')


@pytest.mark.parametrize('door', DOORS)
@pytest.mark.parametrize('name', NAMES)
def test_a_crafted_checkpoint_is_one_error_and_executes_nothing(honest, tmp_path, name, door):
    path, proof = tmp_path / 'crafted.pth', tmp_path / 'executed'
    write(path, name, open_checkpoint(honest), proof)
    statistics = dict(HistoryBuffer._statistics_methods)
    message = r"crafted\.pth' is not a checkpoint that (can be read safely|is whole): "
    with pytest.raises(DistillationError, match=message) as error:
        DOORS[door](path, tmp_path / 'run')
    assert len(str(error.value)) < 1000
    assert not proof.exists()
    assert HistoryBuffer._statistics_methods == statistics


@pytest.mark.parametrize('name', ['os_system', 'eval', 'exec', 'open'])
def test_the_crafted_files_would_do_harm(tmp_path, name):
    """Otherwise nothing is shown by refusing them."""
    path, proof = tmp_path / 'crafted.pth', tmp_path / 'executed'
    write(path, name, {}, proof)
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize('door', DOORS)
def test_the_text_of_a_config_in_a_checkpoint_is_not_executed(honest, tmp_path, door):
    path, proof = tmp_path / 'x.pth', tmp_path / 'executed'
    content = open_checkpoint(honest)
    for key in ('config', 'cfg'):
        content['meta'][key] = touch(proof)
    content['message_hub']['runtime_info']['cfg'] = touch(proof)
    torch.save(content, path)
    assert DOORS[door](path, tmp_path / 'run')
    assert not proof.exists()


def test_files_below_a_megabyte_take_little_memory(honest, tmp_path):
    """In a process of its own, since a crash or gigabytes would end this one."""
    for name in NAMES:
        write(tmp_path / f'{name}.pth', name, dict(state_dict=dict(weight=torch.ones(4))), tmp_path / 'executed')
    assert max(file.stat().st_size for file in tmp_path.glob('*.pth')) < 10 ** 6
    code = textwrap.dedent(f"""
        import resource, sys
        from pathlib import Path
        import mmkd_plugin
        from mmkd_plugin.utils.checkpoint_files import open_checkpoint
        print('imported')  # until then OneDL's packages print what they do without
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for path in sorted(Path({str(tmp_path)!r}).glob('*.pth')):
            try:
                open_checkpoint(path)
            except mmkd_plugin.DistillationError:
                print('refused')
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)""")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    *refused, kilobytes = done.stdout.partition('imported')[2].split()
    assert refused == ['refused'] * len(NAMES)
    assert int(kilobytes) < 300_000
    assert not (tmp_path / 'executed').exists()


def as_torch_2_1_wrote_it(path, target):
    """The same checkpoint as torch 2.1 and numpy 1 write it: other parts, and other names for numpy's functions."""
    with zipfile.ZipFile(path) as archive:
        parts = {name.split('/', 1)[1]: archive.read(name) for name in archive.namelist()}
    content = parts.pop('data.pkl').replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n')
    assert b'numpy._core' not in content
    assert content.count(b'cnumpy.core.multiarray\n') >= 2
    raw(target, content, {name: data for name, data in parts.items() if name.startswith('data/') or name == 'byteorder'})


def assert_same(one, other):
    """Equal values of equal types, all the way down."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other):
            assert_same(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    elif isinstance(one, HistoryBuffer):
        assert_same(one.data, other.data)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other or one != one


def test_checkpoints_of_torch_2_1_and_of_this_torch_are_loaded_and_resumed_alike(honest, tmp_path):
    old = tmp_path / 'old.pth'
    as_torch_2_1_wrote_it(honest, old)
    present = open_checkpoint(honest)
    assert_same(present, open_checkpoint(old))
    assert_same(present, CheckpointLoader.load_checkpoint(str(old)))
    weights = torch.load(honest, weights_only=False)['state_dict']
    assert_same(dict(weights), dict(present['state_dict']))
    assert present['state_dict']._metadata == weights._metadata
    later = resume(honest, tmp_path / 'one')
    assert later
    assert resume(old, tmp_path / 'other') == later


def test_what_mmengine_downloads_is_not_executed(tmp_path, monkeypatch):
    """Its own loader of addresses is torch's, which executes what it gets."""
    proof = tmp_path / 'executed'
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    torch.save(EXECUTING['os_system'](proof), tmp_path / 'checkpoints/bad-12345678.pth')
    with pytest.raises(DistillationError, match='bad-12345678.pth. is not a checkpoint that can be read safely'):
        CheckpointLoader.load_checkpoint('https://download.openmmlab.com/bad-12345678.pth')
    assert not proof.exists()
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), tmp_path / 'checkpoints/good.pth')
    loaded = CheckpointLoader.load_checkpoint('https://download.openmmlab.com/good.pth?x=1', map_location='cpu')
    assert torch.equal(loaded['state_dict']['weight'], torch.ones(2))


def test_torch_load_of_the_rest_of_the_process_is_left_alone(tmp_path):
    torch.save(dict(value=Call(len, 'ab')), tmp_path / 'x.pth')
    assert torch.load(tmp_path / 'x.pth', weights_only=False) == dict(value=2)
    assert not {HistoryBuffer, np.ndarray, np.dtype} & set(safe_globals())
    assert mmengine_checkpoint.torch.load is not torch.load
    assert mmengine_checkpoint.torch.save is torch.save


def test_the_page_names_tests_that_exist():
    named = re.findall(r'`(tests/[\w/]+\.py): (test_\w+)`', PAGE.read_text())
    assert len(named) >= 15
    for file, test in named:
        assert re.search(rf'^def {test}\(', (ROOT / file).read_text(), re.MULTILINE), f'{file}: {test}'
