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
    teachers = distillation_of(runner).teachers.by_name
    found = innermost((runner.cfg.get('train_dataloader') or {}).get('dataset', {}))[0]
    dataset = found if isinstance(found, dict) else dict(type=type(found))  # built by hand
    return dict(
        dataset=' '.join(_text(dataset[key]) for key in ('type', 'data_root', 'ann_file') if dataset.get(key)),
        teacher=', '.join(_teacher(block) for block in model.distillation_cfg['teachers'].values()),
        checkpoint=', '.join(teacher.identity.get('checkpoint', '') for teacher in teachers.values()),
        student=Path(runner.cfg.filename).name if runner.cfg.filename else type(model).__name__,
        versions=dict(torch=torch.__version__, mmengine=mmengine.__version__, mmkd_plugin=__version__),
        seed=runner.seed, date=datetime.date.today().isoformat())


def _teacher(block: Dict[str, Any]) -> str:
    config = block.get('module') or block['config']
    return _text(config.get('model', config).get('type', '') if isinstance(config, dict) else config)


def _text(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)
