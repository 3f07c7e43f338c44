"""A config on the way of ``tools/train.py`` and ``tools/search.py``, in this process: read, checked, built, trained."""
import argparse
import ast
import math
import pickle
from pathlib import Path
from typing import Any, Dict, List, Optional

import mmengine.config.config as mmengine_config
import mmengine.runner.runner as mmengine_runner
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkd_plugin.cli.search import Experiment
from mmkd_plugin.utils.launch import read_config

READ = """globals().update(__import__('pickle').loads(open({name!r}, 'rb').read()))\n"""


def spare_reports() -> None:
    """Takes two reports of mmengine, which are not what is tried, out of the time of each run.

    The environment (it starts compilers) is looked at once, and the text of a config is checked by Python's parser in place
    of yapf, which formats it for seconds.
    """
    environment = mmengine_runner.collect_env()
    mmengine_runner.collect_env = lambda: dict(environment)

    def unformatted(text, **options):
        ast.parse(text)
        return text, False

    mmengine_config.FormatCode = unformatted


class Losses(Hook):
    """Keeps the losses of every iteration."""
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.kept: List[Dict[str, float]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.kept.append({name: float(value) for name, value in outputs.items() if 'loss' in name})


def write_config(content: Dict[str, Any], name: str) -> Path:
    """A config file that holds values of every kind, also those that have no text (NaN, objects)."""
    Path(f'{name}.pkl').write_bytes(pickle.dumps(content))
    path = Path(f'{name}.py')
    path.write_text(READ.format(name=f'{name}.pkl'))
    return path


def read(path: Path) -> Any:
    """The config of a run, as ``tools/train.py`` reads it."""
    return read_config(argparse.Namespace(config=str(path), work_dir=None, launcher='none', local_rank=0, cfg_options=None))


def train(content: Dict[str, Any], search: bool = False, teacher: Optional[str] = None) -> Dict[str, Any]:
    """Trains a config in the present folder.

    Args:
        content: the config, in plain dicts.
        search: whether the search that it describes is run in place of itself.
        teacher: the checkpoint that the teacher should have.

    Returns:
        What a judge wants to know of the run.
    """
    path = write_config(content, 'config')
    if search:
        derived = Experiment(str(path), Path('train.py')).search_config()
        path = write_config(derived.to_dict(), 'search')
    runner = Runner.from_cfg(read(path))
    losses = Losses()
    runner.register_hook(losses)
    runner.train()
    return facts(runner, losses.kept, teacher)


def facts(runner: Runner, losses: List[Dict[str, float]], teacher: Optional[str]) -> Dict[str, Any]:
    """Of a run that has ended."""
    model = runner.model
    distillation = getattr(model, 'distillation', None)
    found: Dict[str, Any] = dict(iterations=runner.iter, length=runner.max_iters,
                                 losses=sorted({name for kept in losses for name in kept}),
                                 not_finite=sorted({name for kept in losses for name, value in kept.items()
                                                    if not math.isfinite(value)}),
                                 negative=sorted({name for kept in losses for name, value in kept.items() if value < 0}),
                                 weights_finite=all(bool(value.isfinite().all()) for value in model.state_dict().values()
                                                    if value.is_floating_point()))
    if distillation is not None:
        found['distillers'] = list(distillation.distillers)
        if teacher is not None:
            found['teacher_as_saved'] = as_saved(distillation.teacher.model, teacher)
            found['teacher_weights'] = [(name, list(value.shape), value.is_floating_point())
                                        for name, value in distillation.teacher.model.state_dict().items()]
    return found


def as_saved(model: torch.nn.Module, checkpoint: str) -> bool:
    """Whether a model has the weights of a checkpoint, bit for bit."""
    saved = torch.load(checkpoint, weights_only=True)['state_dict']
    state = model.state_dict()
    return set(saved) == set(state) and all(torch.equal(value, state[name]) for name, value in saved.items())
