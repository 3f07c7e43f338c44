"""Where the Runner meets distillation: the start of training."""
import functools
import gc
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..utils.loading import naming_dead_workers
from .checkpoint import DistillationHook, ResumeHook, stateful_hooks
from .overlay import DistilledMixin
from .resume import ValidatesFirst, checkpoint_folders, choose_checkpoint, extend_saving, remove_unfinished
from .student import unwrap


def attach_to_runner(runner: Runner) -> None:
    """Attaches distillation to a runner's model, if it is a distilled one, and adds the :class:`DistillationHook`."""
    model = unwrap(runner.model)
    if not isinstance(model, DistilledMixin) or model.distillation is not None:
        return
    stateful_hooks(runner)
    distillation = model.attach_distillation(Path(runner.work_dir))
    if is_model_wrapper(runner.model):
        # DDP learns its parameters when it is made, and the adapters have just come. The old wrapper's gradient hooks
        # go with it.
        runner.model = None
        gc.collect()
        runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
    _add_hooks(runner)
    names = ', '.join(f'{name} ({type(distiller).__name__})' for name, distiller in distillation.distillers.items())
    print_log(f'distillation: {names}', logger=runner.logger)


def _add_hooks(runner: Runner) -> None:
    keepers = [hook for hook in runner.hooks if isinstance(hook, DistillationHook)]
    if not keepers:
        keepers = [DistillationHook()]
        runner.register_hook(keepers[0])
    validates_first = ValidatesFirst(keepers[0].generators)
    runner.register_hook(validates_first)
    runner.register_hook(ResumeHook(keepers[0], validates_first))


def extend_runner() -> None:
    """Makes ``Runner.train`` attach distillation first, checkpoints whole, and ``Runner.load_checkpoint`` return no config.

    The Runner has no event between building the model and building the optimiser, and only in ``train`` is it known that
    a teacher will be needed. In runs of other models, what is learnt is not affected; their checkpoints are written and
    found as those of distilled ones (:mod:`~mmkd_plugin.model.resume`), so that a student that is trained alone for
    comparison survives the same kills.

    ``Runner.resume`` would execute the config's text (``Config.fromstring(checkpoint['meta']['config'])``), for the number
    of GPUs it was written with before mmengine; the text stays in the file.
    """
    extend_saving()
    if getattr(Runner.train, 'attaches_distillation', False):
        return
    train, load = Runner.train, Runner.load_checkpoint

    @functools.wraps(train)
    def train_with_distillation(self: Runner) -> Any:
        choose_checkpoint(self)
        remove_unfinished(checkpoint_folders(self))
        attach_to_runner(self)
        with naming_dead_workers():
            return train(self)

    train_with_distillation.attaches_distillation = True  # type: ignore[attr-defined]  # a mark that no function has
    Runner.train = train_with_distillation

    @functools.wraps(load)
    def load_checkpoint(self: Runner, *args: Any, **kwargs: Any) -> Any:
        checkpoint = load(self, *args, **kwargs)
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        return checkpoint

    Runner.load_checkpoint = load_checkpoint
