"""Where a result comes from: what its file says about the run that made it."""
import datetime
from pathlib import Path
from typing import Any, Dict

import mmengine
import torch
from mmengine.runner import Runner

from ..version import __version__
from .runner import unwrap


def provenance(runner: Runner) -> Dict[str, Any]:
    """Data set, teacher, student, versions, seed and date of a distillation run, as text for a reader of its result."""
    teacher = unwrap(runner.model).distillation_cfg['teacher']['config']
    dataset = _innermost((runner.cfg.get('train_dataloader') or {}).get('dataset', {}))
    return dict(
        dataset=' '.join(str(dataset[key]) for key in ('type', 'data_root', 'ann_file') if dataset.get(key)),
        teacher=teacher.get('model', teacher).get('type', '') if isinstance(teacher, dict) else str(teacher),
        student=Path(runner.cfg.filename).name if runner.cfg.filename else type(unwrap(runner.model)).__name__,
        versions=dict(torch=torch.__version__, mmengine=mmengine.__version__, mmkd_plugin=__version__),
        seed=runner.seed, date=datetime.date.today().isoformat())


def _innermost(dataset: dict) -> dict:
    while isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    return dataset
