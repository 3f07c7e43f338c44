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
from mmkd_plugin.utils.errors import DistillationError
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
def told(caplog):
    """What warnings said."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
                   and record.getMessage().startswith('resume: passed over')]
    logger.removeHandler(caplog.handler)


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


def test_one_that_was_written_after_last_checkpoint_is_newer_and_one_of_another_run_is_not(half):
    (half / 'last_checkpoint').write_text(str(half / 'epoch_2.pth'))
    written = (half / 'epoch_2.pth').stat().st_mtime
    os.utime(half / 'epoch_3.pth', (written + 10, written + 10))
    assert newest_whole([half]) == str(half / 'epoch_3.pth')
    os.utime(half / 'epoch_3.pth', (written - 10, written - 10))
    assert newest_whole([half]) == str(half / 'epoch_2.pth')


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
