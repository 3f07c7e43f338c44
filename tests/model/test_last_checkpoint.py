"""A spoiled last checkpoint is passed over; a kill at any moment leaves a whole one."""
import logging
import os
import shutil

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MMLogger
from resume_runs import differences, epochs_cfg, with_drops
from zoo import Stop, run

from mmkd_plugin.model.resume.newest import newest_whole
from mmkd_plugin.model.resume.ranks import decided_by_the_first
from mmkd_plugin.model.resume.saving import remove_unfinished
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.files import whole_file
from mmkd_plugin.utils.torch_files import why_spoiled


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with a run that was interrupted after its third of four epochs, and the whole run."""
    folder = tmp_path_factory.mktemp('trained')
    whole, losses = run(epochs_cfg(folder / 'whole', 4, 4), with_drops)
    run(epochs_cfg(folder / 'half', 4, 4), lambda runner: (with_drops(runner), runner.register_hook(Stop(epoch=3))))
    return folder / 'half', whole, losses


@pytest.fixture
def half(trained, tmp_path):
    """A copy of the interrupted run's folder."""
    folder = tmp_path / 'half'
    shutil.copytree(trained[0], folder)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_3.pth'))
    return folder


@pytest.fixture
def warned(caplog):
    """What warnings said."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)


@pytest.fixture
def told(warned):
    """What warnings said about spoiled files."""
    return lambda: [message for message in warned() if message.startswith('resume: passed over')]


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


SPOILS = dict(cut=cut, empty=lambda path: path.write_bytes(b''), zeros=zeroed, text=lambda path: path.write_text('hello'),
              missing=lambda path: path.unlink())


@pytest.mark.parametrize('spoil', SPOILS)
def test_a_spoiled_checkpoint_is_passed_over_with_one_line(spoil, half, told):
    SPOILS[spoil](half / 'epoch_3.pth')
    assert newest_whole([half]) == str(half / 'epoch_2.pth')
    line, = told()
    assert str(half / 'epoch_3.pth') in line
    assert f'{half / "epoch_2.pth"} is used instead' in line


@pytest.mark.parametrize('content', [b'', b'\0' * 20, b'epoch_3', b'\xff\xfe', b'work_dirs/x/epo'],
                         ids=['empty', 'zeros', 'no_path', 'no_text', 'half'])
def test_a_spoiled_last_checkpoint_does_not_hide_the_newest(content, half, told):
    (half / 'last_checkpoint').write_bytes(content)
    assert newest_whole([half]) == str(half / 'epoch_3.pth')
    assert len(told()) == 1


def test_without_last_checkpoint_the_newest_is_taken(half, told):
    (half / 'last_checkpoint').unlink()
    assert newest_whole([half]) == str(half / 'epoch_3.pth')
    assert told() == []


SPOILED = 'spoiled'
LATER, COPIED = 'it was written later', 'copied or moved'


@pytest.mark.parametrize(('named', 'files', 'chosen', 'reasons'), [
    pytest.param('run/epoch_2.pth', {'run/epoch_1.pth': 1, 'run/epoch_2.pth': 2}, 'run/epoch_2.pth', [], id='the last'),
    pytest.param('run/epoch_2.pth', {'run/epoch_2.pth': 2, 'run/epoch_3.pth': 3}, 'run/epoch_3.pth', [LATER],
                 id='larger and later'),
    pytest.param('run/epoch_2.pth', {'run/epoch_2.pth': 2, 'run/epoch_3.pth': 2}, 'run/epoch_2.pth', [],
                 id='larger at the same time'),
    pytest.param('run/epoch_2.pth', {'run/epoch_2.pth': 2, 'run/epoch_9.pth': 1}, 'run/epoch_2.pth', [],
                 id='larger and earlier'),
    pytest.param('run/epoch_2.pth', {'run/epoch_2.pth': 2, 'run/epoch_1.pth': 3}, 'run/epoch_2.pth', [],
                 id='smaller and later'),
    pytest.param('run/epoch_2.pth', {'run/epoch_2.pth': 2, 'run/iter_50.pth': 3}, 'run/epoch_2.pth', [], id='another kind'),
    pytest.param('run/epoch_2.pth', {'run/epoch_2.pth': 2, 'out/epoch_3.pth': 3}, 'out/epoch_3.pth', [LATER],
                 id='later in the second folder'),
    pytest.param('out/epoch_2.pth', {'out/epoch_2.pth': 2, 'run/epoch_2.pth': 1}, 'out/epoch_2.pth', [],
                 id='named in the second folder'),
    pytest.param('run/epoch_2.pth', {'run/epoch_1.pth': 1, 'run/epoch_2.pth': (2, SPOILED)}, 'run/epoch_1.pth', ['holds'],
                 id='spoiled'),
    pytest.param('run/epoch_2.pth', {'run/epoch_2.pth': 2, 'run/epoch_3.pth': (3, SPOILED)}, 'run/epoch_2.pth', ['holds'],
                 id='larger, later and spoiled'),
    pytest.param('run/epoch_2.pth', {'run/epoch_1.pth': 1, 'run/epoch_2.pth': (2, SPOILED), 'run/epoch_9.pth': 0},
                 'run/epoch_1.pth', ['holds'], id='spoiled, and larger and earlier'),
    pytest.param('other/epoch_2.pth', {'other/epoch_2.pth': 1, 'other/epoch_9.pth': 8, 'run/epoch_2.pth': 4},
                 'run/epoch_2.pth', [COPIED], id='copied, the other has gone on'),
    pytest.param('other/epoch_2.pth', {'run/epoch_1.pth': 1, 'run/epoch_2.pth': 2, 'run/epoch_9.pth': 0}, 'run/epoch_2.pth',
                 [COPIED], id='moved'),
    pytest.param('other/epoch_2.pth', {'other/epoch_2.pth': 1, 'run/epoch_2.pth': 4, 'run/epoch_3.pth': 5},
                 'run/epoch_3.pth', [LATER], id='copied and gone on'),
    pytest.param('other/epoch_2.pth', {'other/epoch_2.pth': 1, 'other/epoch_9.pth': 8}, 'other/epoch_2.pth', [],
                 id='another folder without its like here'),
    pytest.param('other/epoch_2.pth', {'other/epoch_2.pth': 1, 'other/epoch_9.pth': 8, 'run/epoch_2.pth': (4, SPOILED)},
                 'other/epoch_2.pth', ['holds'], id='another folder, spoiled here'),
    pytest.param('other/epoch_2.pth', {'other/epoch_9.pth': 8, 'run/epoch_1.pth': 1}, 'run/epoch_1.pth', ['passed over'],
                 id='another folder, where it is missing'),
    pytest.param(None, {'run/epoch_1.pth': 2, 'run/epoch_2.pth': 1, 'other/epoch_9.pth': 8}, 'run/epoch_2.pth', [],
                 id='none named'),
    pytest.param(None, {'other/epoch_9.pth': 8}, None, [], id='none at all')])
def test_which_checkpoint_is_taken(named, files, chosen, reasons, tmp_path, warned):
    for folder in ('run', 'out', 'other'):
        (tmp_path / folder).mkdir()
    for name, what in files.items():
        time, spoiled = what if isinstance(what, tuple) else (what, None)
        torch.save(dict(name=name), tmp_path / name)
        if spoiled:
            (tmp_path / name).write_text('holds no checkpoint')
        os.utime(tmp_path / name, (1000 + time, 1000 + time))
    if named is not None:
        (tmp_path / 'run/last_checkpoint').write_text(str(tmp_path / named))
    assert newest_whole([tmp_path / 'run', tmp_path / 'out']) == (None if chosen is None else str(tmp_path / chosen))
    messages = warned()
    assert len(messages) == len(reasons)
    for message, reason in zip(messages, reasons):
        assert reason in message
        assert f'{tmp_path / chosen} is used instead' in message


def test_where_none_is_whole_all_are_listed_in_one_error(half):
    for path in half.glob('epoch_*.pth'):
        cut(path)
    with pytest.raises(DistillationError) as caught:
        run(epochs_cfg(half, 4, 4, resume=True))
    assert all(f'epoch_{number}.pth' in str(caught.value) for number in (1, 2, 3))


def test_where_there_is_none_the_run_begins(tmp_path):
    assert newest_whole([tmp_path]) is None
    _, losses = run(epochs_cfg(tmp_path, 1, 4, resume=True))
    assert len(losses) == 2


def test_one_that_is_named_and_spoiled_is_an_error_with_the_newest_beside_it(half):
    cut(half / 'epoch_3.pth')
    with pytest.raises(DistillationError) as caught:
        run(epochs_cfg(half, 4, 4, resume=True, load_from=str(half / 'epoch_3.pth')))
    assert str(half / 'epoch_3.pth') in str(caught.value)
    assert caught.value.nearest == (str(half / 'epoch_2.pth'),)


def test_a_run_resumed_from_the_one_before_is_the_whole_run(half, trained):
    _, whole, losses = trained
    zeroed(half / 'epoch_3.pth')
    (half / 'epoch_4.pth.0123abcd.tmp').write_bytes(b'PK')
    resumed, later = run(epochs_cfg(half, 4, 4, resume=True), with_drops)
    assert later == losses[4:]
    assert differences(whole, resumed) == []
    assert list(half.glob('*.tmp')) == []


def test_of_unfinished_files_only_those_of_killed_processes_go(tmp_path):
    gone = ['epoch_4.pth.0123abcd.tmp', 'best_score_epoch_4.pth.89abcdef.tmp', 'last_checkpoint.0123abcd.tmp']
    left = ['epoch_4.pth.tmp', 'epoch_4.pth.mine.tmp', 'epoch_4.pth.0123ABCD.tmp', 'results.json.0123abcd.tmp',
            'epoch_4.pth.0123abcd.tmp.zip']
    for name in (*gone, *left):
        (tmp_path / name).write_bytes(b'PK')
    with whole_file(tmp_path / 'epoch_5.pth') as file:
        remove_unfinished([tmp_path, tmp_path / 'missing'])
        file.write(b'is being written')
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*left, 'epoch_5.pth'])


class Killed(BaseException):
    pass


class DiesWhileSaving(Hook):
    """Raises when the checkpoint of an epoch is about to be written, after the hooks that come before."""
    priority = 'LOWEST'

    def before_save_checkpoint(self, runner, checkpoint):
        if runner.epoch + 1 == 3:
            checkpoint['dies'] = Dies()


class Dies:
    """What cannot be written: everything before it in the file has been."""

    def __reduce__(self):
        raise Killed


def test_a_run_that_dies_while_saving_leaves_the_checkpoint_before_also_where_only_one_is_kept(tmp_path):
    cfg = epochs_cfg(tmp_path, 4, 4)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    with pytest.raises(Killed):
        run(cfg, lambda runner: runner.register_hook(DiesWhileSaving()))
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_2.pth']
    assert why_spoiled(tmp_path / 'epoch_2.pth') is None
    assert newest_whole([tmp_path]) == str(tmp_path / 'epoch_2.pth')


def test_outdated_checkpoints_go_as_in_mmengine(tmp_path):
    cfg = epochs_cfg(tmp_path, 4, 4)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    runner, _ = run(cfg)
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_3.pth', 'epoch_4.pth']
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert list(hook.keep_ckpt_ids) == [3, 4]
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_4.pth')
    saved = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    assert saved['message_hub']['runtime_info']['keep_ckpt_ids'] == [3, 4]


@pytest.mark.parametrize(('place', 'keep', 'left'), [
    pytest.param('half', 2, [3, 4], id='removed'), pytest.param('half', -1, [1, 2, 3, 4], id='all are kept now'),
    pytest.param('moved', 2, [1, 3, 4], id='not in a moved folder')])
def test_what_was_outdated_when_the_process_was_killed_goes_when_it_is_resumed(place, keep, left, tmp_path):
    cfg = epochs_cfg(tmp_path / 'half', 4, 4)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    run(cfg, lambda runner: runner.register_hook(Stop(epoch=3)))
    assert sorted(path.name for path in (tmp_path / 'half').glob('epoch_*')) == ['epoch_2.pth', 'epoch_3.pth']
    shutil.copy(tmp_path / 'half/epoch_2.pth', tmp_path / 'half/epoch_1.pth')  # it has not been removed yet
    (tmp_path / 'half').rename(tmp_path / place)
    cfg = epochs_cfg(tmp_path / place, 4, 4, resume=True)
    cfg.default_hooks.checkpoint.max_keep_ckpts = keep
    run(cfg)
    assert sorted(path.name for path in (tmp_path / place).glob('epoch_*')) == [f'epoch_{number}.pth' for number in left]


@pytest.mark.parametrize('noted', [
    pytest.param(dict(folder='HERE', numbers=['../other/epoch_1', 9, True, None]), id='numbers'),
    pytest.param(dict(folder='HERE', numbers='1'), id='text'), pytest.param([1], id='list'),
    pytest.param(dict(folder='elsewhere', numbers=[1]), id='folder')])
def test_nothing_else_is_removed_whatever_a_checkpoint_notes(noted, half):
    saved = torch.load(half / 'epoch_3.pth', weights_only=False)
    if isinstance(noted, dict) and noted['folder'] == 'HERE':
        noted = dict(noted, folder=str(half))
    saved['message_hub']['runtime_info'].update(outdated_ckpts=noted, keep_ckpt_ids=[2, 3])
    saved['message_hub']['resumed_keys'].update(outdated_ckpts=True, keep_ckpt_ids=True)
    torch.save(saved, half / 'epoch_3.pth')
    shutil.copy(half / 'epoch_2.pth', half / 'epoch_9.pth')
    os.utime(half / 'epoch_9.pth', (1, 1))
    cfg = epochs_cfg(half, 3, 4, resume=True)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    run(cfg)
    assert sorted(path.name for path in half.glob('epoch_*')) == [f'epoch_{number}.pth' for number in (1, 2, 3, 9)]


@pytest.mark.parametrize('error', [PermissionError('no'), ValueError('no'), RecursionError('no')],
                         ids=['system', 'value', 'recursion'])
def test_whatever_fails_on_the_first_rank_is_an_error_that_every_rank_is_told(error):
    def decide():
        raise error

    with pytest.raises(DistillationError, match=f'{type(error).__name__}: no') as caught:
        decided_by_the_first(decide)
    assert caught.value.__cause__ is error
