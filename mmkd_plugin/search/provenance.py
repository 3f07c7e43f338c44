"""Where a result comes from: what its file says about the run that made it."""
import datetime
from pathlib import Path
from typing import Any, Dict

import mmengine
import torch
from mmengine.runner import Runner

from ..model import distillation_of, distilled
from ..utils.dataset_configs import innermost
from ..version import __version__


def provenance(runner: Runner) -> Dict[str, Any]:
    """Data set, teacher and its checkpoint, config (as ``student``), versions, seed and date: text for a reader."""
    model = distilled(runner)
    block = model.distillation_cfg['teacher']
    teacher = block['config']
    found = innermost((runner.cfg.get('train_dataloader') or {}).get('dataset', {}))[0]
    dataset = found if isinstance(found, dict) else dict(type=type(found))  # built by hand
    return dict(
        dataset=' '.join(_text(dataset[key]) for key in ('type', 'data_root', 'ann_file') if dataset.get(key)),
        teacher=_text(teacher.get('model', teacher).get('type', '') if isinstance(teacher, dict) else teacher),
        checkpoint=distillation_of(runner).teacher.identity.get('checkpoint', ''),
        student=Path(runner.cfg.filename).name if runner.cfg.filename else type(model).__name__,
        versions=dict(torch=torch.__version__, mmengine=mmengine.__version__, mmkd_plugin=__version__),
        seed=runner.seed, date=datetime.date.today().isoformat())


def _text(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)
