"""Where the Runner meets distillation: the start of training."""
import functools
import gc
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Container, Dict, Iterator, Sequence

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ..distiller import BringsHook
from ..registry import HOOKS
from ..utils.errors import DistillationError
from ..utils.loading import naming_dead_workers
from ..utils.records import Shown
from .checkpoint import DistillationHook, ResumeHook, stateful_hooks
from .compiled import prepare_compile
from .distillation import Distillation
from .overlay import DistilledMixin
from .resume import (
    ValidatesFirst,
    check_places,
    checkpoint_folders,
    choose_checkpoint,
    extend_saving,
    remove_unfinished,
    settings_of,
)
from .resume.section import KEY
from .student import unwrap
from .teacher_weights import check_finite, check_kinds, is_finite


def attach_to_runner(runner: Runner) -> None:
    """Attaches distillation to a runner's model, if it is a distilled one, and adds the :class:`DistillationHook`."""
    model = unwrap(runner.model)
    if not isinstance(model, DistilledMixin) or model.distillation is not None:
        return
    stateful_hooks(runner)
    distillation = model.attach_distillation(Path(runner.work_dir))
    prepare_compile(runner, distillation)
    if is_model_wrapper(runner.model):
        # DDP learns its parameters when it is made, and the adapters have just come. The old wrapper's gradient hooks
        # go with it.
        runner.model = None
        gc.collect()
        runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
    _add_hooks_of_distillers(runner, distillation)
    _add_needed_hooks(runner, distillation.needed_hooks)
    _add_hooks(runner)
    names = ', '.join(f'{name} ({type(distiller).__name__})' for name, distiller in distillation.distillers.items())
    print_log(f'distillation: {names}', logger=runner.logger)


def _add_hooks_of_distillers(runner: Runner, distillation: Distillation) -> None:
    """Adds the hook that a distiller needs, where no hook of the config serves it, and it acts at all."""
    for name, distiller in distillation.distillers.items():
        if not isinstance(distiller, BringsHook) or distiller.options.loss_weight == 0:
            continue
        cfg = distiller.hook()
        kind: Any = HOOKS.get(cfg['type'])
        if not any(isinstance(hook, kind) and hook.serves(name) for hook in runner.hooks):
            runner.register_hook(HOOKS.build(cfg))
            print_log(f'{distiller.path}: custom_hooks has no {cfg["type"]} for it; added: {cfg}', logger=runner.logger)


def _add_needed_hooks(runner: Runner, needed: Sequence[Dict[str, Any]]) -> None:
    """Adds hooks that no config names, unless there is one of such a type."""
    for cfg in needed:
        kind: Any = HOOKS.get(cfg['type'])
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(HOOKS.build(cfg))
            print_log(f'custom_hooks has no {cfg["type"]}; added: {cfg}', logger=runner.logger)


def _add_hooks(runner: Runner) -> None:
    keepers = [hook for hook in runner.hooks if isinstance(hook, DistillationHook)]
    if not keepers:
        keepers = [DistillationHook()]
        runner.register_hook(keepers[0])
    validates_first = ValidatesFirst(keepers[0].generators)
    runner.register_hook(validates_first)
    runner.register_hook(ResumeHook(keepers[0], validates_first))
    keepers[0].settings = settings_of(runner)


@contextmanager
def fetching(runner: Runner) -> Iterator[None]:
    """Errors about the checkpoint of a distilled run, whose name may stand in ``last_checkpoint``, name the key."""
    key, given = 'resume' if runner._resume else 'load_from', str(runner._load_from)
    try:
        yield
    except DistillationError as error:
        raise (error if error.path else error.at(key)) from error.__cause__
    except ImportError as error:  # of what fetches from s3:// and the like
        raise DistillationError(f'cannot be fetched ({error})', path=key, given=given,
                                accepted='a path, or an http(s) address',
                                hint='What is resumed from stands in last_checkpoint of the work dir.') from error
    except (TypeError, AttributeError) as error:
        if runner._resume:  # then it has been looked at before
            raise
        raise DistillationError(f'holds no weights ({error})', path=key, given=given,
                                accepted='a checkpoint: a dict with weights by name') from error


def check_beginning(runner: Runner, checkpoint: Any, infinite: Container[str]) -> None:
    """Looks at the weights that a distilled student begins with (``load_from``), or is tested with.

    mmengine loads what it finds: the real part of complex numbers, truth values, NaN.

    Args:
        runner: the runner, whose model has loaded them.
        checkpoint: what the file holds.
        infinite: names of the weights that were not finite before.

    Raises:
        DistillationError: for weights of another kind than the student's, or that are not finite; the path is the key.
    """
    model, file = unwrap(runner.model), str(runner._load_from)
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else {}
    kinds = {name: value.dtype for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    weights = {str(name).removeprefix('module.'): value for name, value in state.items()} if isinstance(state, dict) else {}
    if not set(weights) & set(kinds):
        raise DistillationError(f'holds none of the weights of the student ({type(model).__name__})', path='load_from',
                                given=file, accepted='a checkpoint of such a model')
    for name, value in weights.items():
        if name in kinds and not isinstance(value, Tensor):
            raise DistillationError(f'holds {name} as {Shown(value)!r}', path='load_from', given=file, accepted='a tensor')
    used = {name: state[name] for name in kinds if isinstance(state, dict) and isinstance(state.get(name), Tensor)}
    check_kinds(used, kinds, 'load_from', file)
    check_finite(model, infinite, 'load_from', file)


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
    train, load, resume = Runner.train, Runner.load_checkpoint, Runner.resume

    @functools.wraps(train)
    def train_with_distillation(self: Runner) -> Any:
        if isinstance(unwrap(self.model), DistilledMixin):
            check_places(self)
        choose_checkpoint(self)
        remove_unfinished(checkpoint_folders(self))
        attach_to_runner(self)
        with naming_dead_workers():
            return train(self)

    train_with_distillation.attaches_distillation = True  # type: ignore[attr-defined]  # a mark that no function has
    Runner.train = train_with_distillation

    @functools.wraps(load)
    def load_checkpoint(self: Runner, *args: Any, **kwargs: Any) -> Any:
        distilled = isinstance(unwrap(self.model), DistilledMixin)
        begins = distilled and not self._resume
        before = unwrap(self.model).state_dict() if begins else {}
        infinite = {name for name, value in before.items() if not is_finite(value)}
        with fetching(self) if distilled else nullcontext():
            checkpoint = load(self, *args, **kwargs)
        if begins:
            check_beginning(self, checkpoint, infinite)
        self.loaded_distilled = isinstance(checkpoint, dict) and KEY in checkpoint
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        return checkpoint

    Runner.load_checkpoint = load_checkpoint

    @functools.wraps(resume)
    def resume_run(self: Runner, *args: Any, **kwargs: Any) -> Any:
        try:
            return resume(self, *args, **kwargs)
        except ValueError as error:  # the optimiser's state has the adapters, which this run has not
            if isinstance(error, DistillationError) or isinstance(unwrap(self.model), DistilledMixin) or not getattr(
                    self, 'loaded_distilled', False):
                raise
            raise DistillationError(f'is of a distilled run, this one is not ({error})', path='resume',
                                    given=str(self._load_from), accepted='the config of that run; or load_from with '
                                    'resume=False, to begin with its weights') from error

    Runner.resume = resume_run
