"""What is looked at when a distilled run is built and before it loads anything: by its keys, not by what breaks later."""
import functools
import inspect
import traceback
from collections.abc import Sized
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

from mmengine.dataset import DefaultSampler
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from ..utils.errors import BUILD_ERRORS, DistillationError, building, under, unknown_name
from ..utils.kinds import OptimizerConfig
from ..utils.launch import check_environment, check_load_from, check_types, make_work_dir
from ..utils.mmrazor import hint_for
from ..utils.options import Number
from .checkpoint import DistillationHook
from .overlay import DistilledMixin, build_distilled_model

TYPES = ('mmkd.DistilledModel', 'DistilledModel', build_distilled_model)  # the function itself: configs in pure Python
BUILT = dict(build_model='model', build_optim_wrapper='optim_wrapper', build_param_scheduler='param_scheduler',
             build_visualizer='visualizer', build_log_processor='log_processor')
"""By a method of the Runner, the key of what it builds."""
AT_START: List[Callable[[Runner], None]] = []
"""What is called with the runner of a distilled training that is about to begin, after it has been checked."""
LOOPS = dict(build_train_loop='train', build_val_loop='val', build_test_loop='test')


def extend_builders() -> None:
    """Makes what a Runner builds for a distilled run one error where that fails, with its key.

    And looks at the run before anything is built (work dir, seed), and at its start, before a checkpoint is loaded or a hook
    acts. Runs of other models are not affected.
    """
    if getattr(Runner.load_or_resume, 'checks_distillation', False):
        return
    for method in (*BUILT, *LOOPS, 'register_hook', 'call_hook'):
        _extend(method)
    init, load = Runner.__init__, Runner.load_or_resume
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(self: Runner, *args: Any, **kwargs: Any) -> None:
        given = signature.bind_partial(self, *args, **kwargs).arguments
        if is_distilled_config(given.get('model')):
            make_work_dir(given.get('work_dir'))
            check_environment(given)
            check_load_from(given)
            check_optimizers(given.get('optim_wrapper'))
            check_preprocessor(given['model'], given.get('data_preprocessor'))
        init(self, *args, **kwargs)

    Runner.__init__ = __init__

    @functools.wraps(load)
    def load_or_resume(self: Runner) -> None:
        check_run(self)
        load(self)

    load_or_resume.checks_distillation = True  # type: ignore[attr-defined]  # a mark that no function has
    Runner.load_or_resume = load_or_resume


def _extend(method: str) -> None:
    build = getattr(Runner, method)

    @functools.wraps(build)
    def extended(self: Runner, *args: Any, **kwargs: Any) -> Any:
        if not is_distilled(self):
            return build(self, *args, **kwargs)
        what = args[0] if args else next(iter(kwargs.values()), None)
        if method == 'call_hook':
            with _built_by_hooks():
                return build(self, *args, **kwargs)
        key = _key_of_hook(self, what) if method == 'register_hook' else BUILT.get(method, '')
        if key:
            check_types(what, f'{key}.')
        if method == 'build_optim_wrapper':
            check_optimizers(what, with_types=True)
        with building(key or functools.partial(_key_of_loop, LOOPS[method]), hint_for(what)):
            return build(self, *args, **kwargs)

    setattr(Runner, method, extended)


def is_distilled(runner: Runner) -> bool:
    """Whether the model of a runner, built or not, is a distilled one."""
    built = getattr(runner, 'model', None)
    return _distilled_model(built) is not None or is_distilled_config(runner.cfg.get('model'))


def is_distilled_config(model: Any) -> bool:
    """Whether this is the config of a distilled model."""
    return isinstance(model, dict) and model.get('type') in TYPES


def _distilled_model(model: Any) -> Optional[DistilledMixin]:
    inner = model.module if is_model_wrapper(model) else model
    return inner if isinstance(inner, DistilledMixin) else None


@contextmanager
def _built_by_hooks() -> Iterator[None]:
    """What a hook builds when the run begins (the averaged model of an ``EMAHook``) is an error of its config.

    All else that a hook raises is left as it is: it may be about a network, a disk, a bug.
    """
    try:
        yield
    except BUILD_ERRORS as error:
        if isinstance(error, DistillationError) or 'build_from_cfg' not in _called(error):
            raise
        with building('custom_hooks'):
            raise


def _key_of_loop(side: str, error: BaseException) -> str:
    """A loop builds its loader and its evaluator: the error comes from one of them, or from the loop itself."""
    part = next((part for part in ('dataloader', 'evaluator') if f'build_{part}' in _called(error)), 'cfg')
    return f'{side}_{part}'


def _called(error: BaseException) -> Set[str]:
    """Names of the functions in which an error was raised, or the one that it replaces (the Runner rewords TypeErrors)."""
    called: Set[str] = set()
    cause: Optional[BaseException] = error
    while cause is not None:
        called.update(frame.f_code.co_name for frame, _ in traceback.walk_tb(cause.__traceback__))
        cause = cause.__context__
    return called


def _key_of_hook(runner: Runner, hook: Any) -> str:
    hooks = runner.cfg.get('custom_hooks')
    numbers = [number for number, one in enumerate(hooks if isinstance(hooks, (list, tuple)) else ()) if one == hook]
    return f'custom_hooks[{numbers[0]}]' if numbers else 'default_hooks'


def check_preprocessor(model: Dict[str, Any], of_the_run: Any) -> None:
    """Raises :class:`DistillationError` for a ``data_preprocessor`` beside a student that has another one of its own.

    Args:
        model: the config of a distilled model.
        of_the_run: the one at the top of the run's config, which a model with one of its own does not take: there are
            configs that inherit it.
    """
    given, student = model.get('data_preprocessor'), model.get('student')
    own = student.get('data_preprocessor') if isinstance(student, dict) else None
    if given is not None and own is not None and given not in (own, of_the_run):
        raise DistillationError('is not what the student has, which is used', path='model.data_preprocessor', given=given,
                                accepted='none, or that of model.student.data_preprocessor')


def check_optimizers(cfg: Any, path: str = 'optim_wrapper', with_types: bool = False) -> None:
    """Looks at the numbers of a run's optimisers, which torch takes as they come (nan as a learning rate).

    Args:
        cfg: the config of an optimiser's wrapper, or a dict of several; anything else is left to who builds it.
        path: where it stands.
        with_types: whether their types have to be registered, in the scope that the run has by then.

    Raises:
        DistillationError: for a number that is none, negative or not finite, or an unknown type; the path is its key.
    """
    if not isinstance(cfg, dict):
        return
    if isinstance(cfg.get('optimizer'), dict):
        with under(f'{path}.optimizer'):
            kind = OptimizerConfig().read(dict(cfg['optimizer'])).get('type')
            with OPTIMIZERS.switch_scope_and_registry(None) as registry:
                if with_types and isinstance(kind, str) and registry.get(kind) is None:
                    raise unknown_name('type', kind, OPTIMIZERS.module_dict)
        return
    for name, part in cfg.items():
        if isinstance(part, dict) and 'optimizer' in part:
            check_optimizers(part, f'{path}.{name}', with_types)


def check_run(runner: Runner) -> None:
    """Looks at a distilled training that is about to begin.

    Args:
        runner: a runner; nothing is looked at where it does not train, or its model is not distilled.

    Raises:
        DistillationError: for training data without a batch, two hooks that both keep the state of distillation, a learning
            rate that is no number, or a distiller that would never act in a run of that length.
    """
    model, loop = _distilled_model(runner.model), runner._train_loop
    if model is None or model.distillation is None or not isinstance(loop, BaseLoop):
        return
    if sum(isinstance(hook, DistillationHook) for hook in runner.hooks) > 1:
        raise DistillationError('has DistillationHook twice', path='custom_hooks',
                                accepted='one, or none: Runner.train adds it by itself')
    _check_batches(runner)
    if runner.max_iters < 1:
        raise DistillationError(f'makes a run of {runner.max_iters} iterations', path='train_cfg',
                                accepted='max_epochs or max_iters > 0')
    _check_rates(runner.optim_wrapper)
    for distiller in model.distillation.distillers.values():
        with under(distiller.path):
            distiller.check_run(runner.max_iters)
    for say in AT_START:
        say(runner)


def _check_batches(runner: Runner) -> None:
    """Raises :class:`DistillationError` for training data without a batch: the run would seem to have succeeded."""
    loader = runner.train_dataloader
    if not isinstance(loader.dataset, Sized):
        return  # a stream; how many images it has is not known
    if len(loader.dataset) == 0:
        raise DistillationError('is empty', path='train_dataloader.dataset', accepted='a data set with images')
    ends = isinstance(loader.sampler, DefaultSampler) or isinstance(runner.train_loop, EpochBasedTrainLoop)
    if ends and len(loader) == 0:
        raise DistillationError(f'the data set has no whole batch, but {len(loader.dataset)} images over all ranks',
                                path='train_dataloader', accepted='a batch_size up to the number of images on each rank, or '
                                'drop_last=False')


def _check_rates(wrapper: Any) -> None:
    for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
        groups = each.optimizer.param_groups if isinstance(each, OptimWrapper) else []
        for name in ('lr', 'weight_decay'):
            for group in groups:
                if isinstance(group.get(name), (int, float)) and not Number(least=0).fits(group[name]):
                    raise DistillationError(f'makes the {name} of a group of weights {group[name]}',
                                            accepted='finite numbers >= 0', path='optim_wrapper.paramwise_cfg')
