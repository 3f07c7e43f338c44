"""Saving: a checkpoint is whole or not there, and the one before goes only when it is."""
import functools
import inspect
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, List, Sequence, Set

import mmengine.runner.runner as runner_module
import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...utils.files import UNFINISHED, whole_file, write_whole

LAST = 'last_checkpoint'
OUTDATED = 'outdated_ckpts'
"""Under this name, the message hub of a checkpoint has the numbers of those that go once it is written, and their folder."""
_UNFINISHED = re.compile(rf'(.+\.pth|{LAST})\.[0-9a-f]{{8}}{re.escape(UNFINISHED)}')
"""What ``whole_file`` calls a checkpoint and the text beside it that are not whole yet."""
EVENT = 'before_saving_on_every_rank'
"""What hooks are called for on every rank before a checkpoint is saved (``before_save_checkpoint`` runs on rank 0 only)."""


def extend_saving() -> None:
    """Has mmengine write checkpoints, and the text ``last_checkpoint``, beside their place first.

    That goes for every run, distilled or not: the files are the same at the end, and a run of the student alone is killed
    as easily. With ``max_keep_ckpts``, mmengine removes the outdated checkpoint before it writes the new one; here there is
    one more on the disk meanwhile. Checkpoints that go elsewhere than to a local disk are written as mmengine does it.
    """
    if getattr(runner_module.save_checkpoint, 'writes_whole', False):
        return
    save = runner_module.save_checkpoint
    signature = inspect.signature(save)

    @functools.wraps(save)
    def save_checkpoint(*args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments
        if _is_local(given['filename'], given.get('file_client_args'), given.get('backend_args')):
            with whole_file(given['filename']) as file:
                torch.save(given['checkpoint'], file)
        else:
            save(*args, **kwargs)

    save_checkpoint.writes_whole = True  # type: ignore[attr-defined]  # a mark that no function has
    runner_module.save_checkpoint = save_checkpoint
    CheckpointHook._save_checkpoint_with_step = _save_with_step
    before_train = CheckpointHook.before_train

    @functools.wraps(before_train)
    def before_train_removing_outdated(self: CheckpointHook, runner: Runner) -> None:
        before_train(self, runner)
        if runner._resume and self.max_keep_ckpts > 0 and is_main_process():
            _remove_left_over(self, runner)

    CheckpointHook.before_train = before_train_removing_outdated


def _is_local(filename: Any, file_client_args: Any, backend_args: Any) -> bool:
    return file_client_args is None and '://' not in str(filename) and isinstance(
        get_file_backend(filename, backend_args=backend_args), LocalBackend)


def _save_with_step(self: CheckpointHook, runner: Runner, step: int, meta: Any) -> None:
    """As ``CheckpointHook._save_checkpoint_with_step`` of mmengine 0.10.7, in another order."""
    outdated = _outdated(self, runner, step)
    name = self.filename_tmpl.format(step)
    self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
    runner.message_hub.update_info('last_ckpt', self.last_ckpt)
    runner.call_hook(EVENT)
    runner.save_checkpoint(
        self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
        save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch, backend_args=self.backend_args,
        **self.args)
    if is_main_process():
        write_whole(Path(runner.work_dir) / LAST, self.last_ckpt)
        _remove(self, outdated)


def _remove(hook: CheckpointHook, paths: Sequence[str]) -> None:
    for path in paths:
        if hook.file_backend.isfile(path):
            hook.file_backend.remove(path)
        elif hook.file_backend.isdir(path):  # those of deepspeed are folders
            hook.file_backend.rmtree(path)


def _remove_left_over(hook: CheckpointHook, runner: Runner) -> None:
    """Removes what was outdated when the checkpoint was saved that a run is resumed from, and is still there.

    The process was killed in between then. In a copied or moved work dir, which other files may have come into, they stay.
    """
    noted = runner.message_hub.runtime_info.get(OUTDATED)
    if isinstance(noted, dict) and noted.get('folder') == str(hook.out_dir) and isinstance(noted.get('numbers'), list):
        _remove(hook, [_path(hook, number) for number in noted['numbers'] if type(number) is int
                       and hook.keep_ckpt_ids and number < hook.keep_ckpt_ids[0]])


def _path(hook: CheckpointHook, number: int) -> str:
    return str(hook.file_backend.join_path(hook.out_dir, hook.filename_tmpl.format(number)))


def _outdated(hook: CheckpointHook, runner: Runner, step: int) -> List[str]:
    """The checkpoints that go once that of ``step`` is written; takes note of it."""
    if hook.max_keep_ckpts <= 0 or (hook.keep_ckpt_ids and hook.keep_ckpt_ids[-1] == step):
        return []
    full = len(hook.keep_ckpt_ids) == hook.max_keep_ckpts
    gone = [hook.keep_ckpt_ids.popleft()] if full else []
    hook.keep_ckpt_ids.append(step)
    runner.message_hub.update_info('keep_ckpt_ids', list(hook.keep_ckpt_ids))
    gone = [number for number in gone if number != step]
    runner.message_hub.update_info(OUTDATED, dict(folder=str(hook.out_dir), numbers=gone))
    return [_path(hook, number) for number in gone]


def remove_unfinished(folders: List[Path]) -> None:
    """Removes, on rank 0, what a killed process has left of a checkpoint it was writing.

    What a living process of this machine has open, such as another run in the same folder, stays.
    """
    if not is_main_process():
        return
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()
             if _UNFINISHED.fullmatch(path.name) and not path.is_dir()]
    still_open = _open_files() if found else set()
    for path in found:
        if str(path.resolve()) not in still_open:
            path.unlink(missing_ok=True)


def _open_files() -> Set[str]:
    """The paths of what processes have open, as far as the system says so (Linux) and this user may see it."""
    found = set()
    for process in Path('/proc').glob('[0-9]*'):
        with suppress(OSError):  # of another user, or it has just ended
            for number in os.listdir(process / 'fd'):
                with suppress(OSError):
                    found.add(os.readlink(process / 'fd' / number))
    return found
