"""Where checkpoints go: what cannot be written is found when a distilled run begins, before anything is trained."""
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...utils.errors import DistillationError, under
from ...utils.records import Shown
from .newest import TEMPLATES, checkpoint_folders, number_of
from .saving import LAST

KEY = 'default_hooks.checkpoint'
_TEMPLATE = "the name of a file with a place for the number, e.g. 'epoch_{}.pth'"


def check_places(runner: Runner) -> None:
    """Looks at what the ``CheckpointHook`` s of a run are told, and at what is in their way.

    Raises:
        DistillationError: for an interval that is no whole number, a name that cannot be made, a folder that is a file, and
            for a folder that has the name of a file that is to be written.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    for hook in hooks:
        with under(KEY):
            _check_hook(hook, Path(runner.work_dir).name)
    templates = [*TEMPLATES, *(hook.filename_tmpl for hook in hooks)]
    folders = checkpoint_folders(runner)
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()
             if path.is_dir() and number_of(path, templates) is not None]
    for path in ([folders[0] / LAST] if (folders[0] / LAST).is_dir() else []) + sorted(found):
        raise DistillationError(f'has the folder {path}, where a file is to be written', path='work_dir',
                                given=str(runner.work_dir), hint='Move it, or take another work_dir.')


def _check_hook(hook: CheckpointHook, name: str) -> None:
    for key in ('interval', 'max_keep_ckpts'):
        if type(getattr(hook, key)) is not int:
            raise DistillationError(path=key, given=Shown(getattr(hook, key)), accepted='a whole number')
    names = [_named(hook.filename_tmpl, number) for number in (1, 2)]
    if names[0] == names[1] and hook.max_keep_ckpts > 0:
        raise DistillationError('gives all checkpoints one name, of which only some are kept (max_keep_ckpts)',
                                path='filename_tmpl', given=hook.filename_tmpl, accepted=_TEMPLATE)
    if hook.out_dir is None or '://' in str(hook.out_dir):
        return
    if not isinstance(hook.out_dir, (str, Path)):
        raise DistillationError(path='out_dir', given=Shown(hook.out_dir), accepted='a folder, or None')
    folder = Path(hook.out_dir) / name
    above = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if above is not None and not above.is_dir():
        raise DistillationError(f'is to be a folder, and {above} is a file', path='out_dir', given=str(hook.out_dir),
                                accepted='a folder, or None for the work dir')


def _named(template: Any, number: int) -> str:
    try:
        name = template.format(number) if isinstance(template, str) else ''
    except (IndexError, KeyError, ValueError, AttributeError):
        name = ''
    if not Path(name).name or '\0' in name:
        raise DistillationError(path='filename_tmpl', given=Shown(template), accepted=_TEMPLATE)
    return name
