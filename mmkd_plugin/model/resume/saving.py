"""Saving: a checkpoint is whole or not there, and the one before goes only when it is."""
import functools
import inspect
from pathlib import Path
from typing import Any, List

import mmengine.runner.runner as runner_module
import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...utils.files import UNFINISHED, whole_file, write_whole

LAST = 'last_checkpoint'
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
        for path in outdated:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # those of deepspeed are folders
                self.file_backend.rmtree(path)


def _outdated(hook: CheckpointHook, runner: Runner, step: int) -> List[str]:
    """The checkpoints that go once that of ``step`` is written; takes note of it."""
    if hook.max_keep_ckpts <= 0 or (hook.keep_ckpt_ids and hook.keep_ckpt_ids[-1] == step):
        return []
    full = len(hook.keep_ckpt_ids) == hook.max_keep_ckpts
    gone = [hook.keep_ckpt_ids.popleft()] if full else []
    hook.keep_ckpt_ids.append(step)
    runner.message_hub.update_info('keep_ckpt_ids', list(hook.keep_ckpt_ids))
    return [hook.file_backend.join_path(hook.out_dir, hook.filename_tmpl.format(number)) for number in gone
            if number != step]


def remove_unfinished(folders: List[Path]) -> None:
    """Removes, on rank 0, what a killed process has left of a checkpoint it was writing."""
    if is_main_process():
        for folder in folders:
            for path in (*folder.glob(f'*.pth.*{UNFINISHED}'), *folder.glob(f'{LAST}.*{UNFINISHED}')):
                path.unlink(missing_ok=True)
