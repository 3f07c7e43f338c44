"""``mmkd export``: a distilled training as a plain config and clean weights, which load without this package."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from ..model.plain import needs_package, plain_config, student_of
from ..utils.checkpoint_files import open_checkpoint
from ..utils.config import load_config
from ..utils.errors import DistillationError, building
from ..utils.files import existing_file
from ..utils.launch import make_work_dir, replace_sync_bn
from ..utils.work_dirs import latest_checkpoint

KEPT = ('dataset_meta', 'epoch', 'iter', 'seed', 'time', 'mmengine_version', 'experiment_name')
"""Of ``meta`` in a checkpoint: what tools for inference read, and where it comes from."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        config: the plain config.
        weights: the checkpoint.
        source: the checkpoint of the training.
        needs_package: whether the plain config still has types of this package (a network or a data set).
    """
    config: Path
    weights: Path
    source: Path
    needs_package: bool


def export(work_dir: Path, checkpoint: Optional[str] = None, out: Optional[Path] = None) -> Exported:
    """Writes the plain student of a training: its config, and its weights alone.

    Args:
        work_dir: the training's, with its config.
        checkpoint: which one; None: the best one, where a training keeps it, otherwise the latest.
        out: a folder; None: ``export`` in the work dir.

    Raises:
        DistillationError: for a folder without a config or a checkpoint, or weights that do not fit the student.
    """
    cfg = load_config(config_of(work_dir), 'WORK_DIR')
    if checkpoint is not None:
        existing_file(checkpoint, '--checkpoint')
    source = Path(checkpoint) if checkpoint is not None else _best(work_dir)
    plain = plain_config(cfg)
    plain.load_from, plain.resume = None, False
    plain.pop('work_dir', None)
    folder = make_work_dir(out or work_dir / 'export', '-o')
    content = _clean(open_checkpoint(source), source)
    _check(plain, content['state_dict'], source)
    # A name of its own: a test of it works in work_dirs/<its name>, which is not to be the distilled training's.
    name = f'{config_of(work_dir).stem}_student'
    weights, config = folder / f'{name}.pth', folder / f'{name}.py'
    torch.save(content, weights)
    plain.dump(config)
    return Exported(config, weights, source, needs_package(plain))


def config_of(work_dir: Path) -> Path:
    """The config that a training has left in its work dir. Raises :class:`DistillationError` unless there is just one."""
    configs = sorted(work_dir.glob('*.py')) if work_dir.is_dir() else []
    if len(configs) != 1:
        raise DistillationError(f'holds {len(configs) or "no"} configs' if work_dir.is_dir() else 'is no folder',
                                path='WORK_DIR', given=str(work_dir), accepted='the work dir of a training, with its config')
    return configs[0]


def _best(work_dir: Path) -> Path:
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    found = best[-1] if best else latest_checkpoint(work_dir)
    if found is None:
        raise DistillationError('holds no checkpoint', path='WORK_DIR', given=str(work_dir),
                                accepted='the work dir of a training that has saved one')
    return found


def _clean(content: Any, source: Path) -> Dict[str, Any]:
    """Weights by name, without a leading ``module.``, and what is kept of ``meta``."""
    state = content.get('state_dict') if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise DistillationError('holds no state_dict', path='--checkpoint', given=str(source), accepted='a checkpoint of a '
                                'training')
    weights = {str(name).removeprefix('module.'): value for name, value in state.items() if isinstance(value, Tensor)}
    meta = content.get('meta')
    kept = {key: meta[key] for key in KEPT if key in meta} if isinstance(meta, dict) else {}
    return dict(state_dict=weights, meta=kept)


def _check(plain: Config, weights: Dict[str, Tensor], source: Path) -> None:
    """Raises :class:`DistillationError` unless the student has just these weights."""
    scope = plain.get('default_scope')
    if scope:
        init_default_scope(scope)
    student = student_of(plain)
    replace_sync_bn(student)
    with building('model'):
        model: nn.Module = MMENGINE_MODELS.build(student)
    own = model.state_dict()
    missing, unexpected = [name for name in own if name not in weights], [name for name in weights if name not in own]
    other = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    for problem, names in (('lacks', missing), ('has besides', unexpected), ('has in another shape', other)):
        if names:
            raise DistillationError(f'{problem} {len(names)} weights of the student: {_first(names)}', path='--checkpoint',
                                    given=str(source), accepted="a checkpoint of this work dir's training")


def _first(names: List[str], count: int = 5) -> str:
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')
