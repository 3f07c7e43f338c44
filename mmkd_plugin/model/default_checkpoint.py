"""Which weights a teacher has when its config is named and its checkpoint is not: they follow from the name."""
from pathlib import Path
from typing import Any, List, Optional

from mmengine.config import Config
from mmengine.fileio import load
from mmengine.logging import print_log

from ..utils.config import find_config, package_of, yaml_as_data
from ..utils.errors import DistillationError, shortened
from ..utils.work_dirs import work_dir_of

ACCEPTED = 'a path or an http(s) address'


def default_checkpoint(reference: Any, config: Config) -> str:
    """The checkpoint that belongs to a teacher's config.

    For a config of another package (``mmseg::``, ``mmdet::``, ``mmpretrain::``) it is the published one: ``Weights`` of the
    config's entry in the metafile beside it. For one of ours (``mmkd_plugin::``) or a path it is what training that config
    leaves at its end: ``epoch_<max_epochs>.pth`` or ``iter_<max_iters>.pth`` in the work dir that it names, or in
    ``work_dirs/<name of the config>``, relative to the working directory; where that is not there, the weights beside the
    config with its name, as `mmkd export` leaves a student. Which one is used is logged.

    Args:
        reference: what stands under ``teacher.config``.
        config: the config that was read from there.

    Returns:
        A path or an address.

    Raises:
        DistillationError: if the config has no name (it is a dict), nothing is published for it, its schedule does not say
            what its last checkpoint is called, or there is no such file; the path is ``checkpoint``.
    """
    if not isinstance(reference, (str, Path)):
        raise DistillationError('is missing: a teacher with random weights teaches noise', path='checkpoint',
                                accepted=f'{ACCEPTED}; for tests, allow_random_weights=True')
    reference = str(reference)
    if package_of(reference) is not None:
        found = _published(reference, find_config(reference, 'config'))
    else:
        found = _trained(reference, find_config(reference, 'config'), config)
    print_log(f'teacher: no checkpoint is given; that of {reference} is {found}', 'current')
    return found


def _published(reference: str, path: Path) -> str:
    metafiles = sorted(file for file in path.parent.glob('*metafile*') if file.suffix in ('.yml', '.yaml'))
    models: List[Any] = [model for file in metafiles for model in _entries(file)]
    weights = sorted({str(model['Weights']) for model in models
                      if Path(str(model.get('Config'))).name == path.name and model.get('Weights')})
    if len(weights) != 1:
        raise DistillationError(f'is missing, and the metafile beside {reference} names {len(weights) or "none"}: '
                                f'{", ".join(weights)}'.rstrip(': '), path='checkpoint', accepted=ACCEPTED)
    return weights[0]


def _entries(metafile: Path) -> List[Any]:
    try:
        with yaml_as_data():
            content = load(metafile)
    except Exception as error:  # a file of another package, which may hold anything
        reason = shortened(f'{type(error).__name__}: {error}')
        raise DistillationError(f'is missing, and the metafile {metafile} cannot be read ({reason})', path='checkpoint',
                                accepted=ACCEPTED) from error
    models = content.get('Models') if isinstance(content, dict) else content  # a list in some packages
    return [model for model in models or () if isinstance(model, dict)]


def _trained(reference: str, path: Path, config: Config) -> str:
    name, beside = _last_checkpoint(config), path.with_suffix('.pth')
    checkpoint = work_dir_of(config) / name if name is not None else beside
    if checkpoint.is_file() or beside.is_file():
        return str(checkpoint if checkpoint.is_file() else beside)
    if name is None:
        raise DistillationError(f'is missing, and {reference} has no train_cfg that says how long it is trained',
                                path='checkpoint', accepted=ACCEPTED)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    raise DistillationError(f'is missing, and there is no {checkpoint} (working directory {Path.cwd()}), where training '
                            'the teacher leaves it', path='checkpoint', accepted=ACCEPTED,
                            hint=f'To make it: mmkd train {shown}')


def _last_checkpoint(config: Config) -> Optional[str]:
    """What mmengine calls the checkpoint at the end of a training."""
    loop = config.get('train_cfg')
    if not isinstance(loop, dict):
        return None
    if loop.get('max_epochs'):
        return f'epoch_{loop["max_epochs"]}.pth'
    return f'iter_{loop["max_iters"]}.pth' if loop.get('max_iters') else None
