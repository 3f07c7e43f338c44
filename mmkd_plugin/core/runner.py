"""The two places where the Runner meets distillation: the start of training, and checkpoints."""
import functools
import gc
import logging
from typing import Any, Dict, Optional

from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ..registry import HOOKS
from .distillation import Distillation
from .distiller import Distiller
from .errors import DistillationError
from .isolation import get_rng_state, set_rng_state
from .overlay import DistilledMixin

CHECKPOINT_KEY = 'mmkd'
CHECKPOINT_VERSION = 1


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a DDP wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


class StatefulHook(Hook):
    """A hook with a state that belongs into the checkpoint; it is kept under ``mmkd``, by :class:`DistillationHook`.

    Attributes:
        state_key: what the state is called there; one hook of a run has it.
    """
    state_key: str

    def state_dict(self) -> dict:
        """Tensors, numbers, text, lists and dicts of them only: checkpoints are read without executing anything."""
        raise NotImplementedError

    def load_state_dict(self, state: dict) -> None:
        """Takes what :meth:`state_dict` returned; called when a run is resumed, before ``before_train``."""
        raise NotImplementedError


def check_settings(saved: Dict[str, Any], present: Dict[str, Any]) -> None:
    """For a search that is resumed: its settings must be those it began with, or its result would be of neither.

    Raises:
        DistillationError: for the settings that differ; prints both sides.
    """
    other = [key for key, value in present.items() if saved.get(key) != value]
    if other:
        there, here = ({key: settings.get(key) for key in other} for settings in (saved, present))
        raise DistillationError(f'resume: the search had other settings. Checkpoint: {there}. Config: {here}.')


def stateful_hooks(runner: Runner) -> Dict[str, StatefulHook]:
    """The stateful hooks of a runner by key. Raises :class:`DistillationError` if two share one."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, StatefulHook)]
    by_key = {hook.state_key: hook for hook in hooks}
    for hook in hooks:
        other = by_key[hook.state_key]
        if other is not hook:
            raise DistillationError(f'custom_hooks: {type(hook).__name__} and {type(other).__name__} are two of one kind. '
                                    'Accepted: one.')
    return by_key


@HOOKS.register_module()
class DistillationHook(Hook):
    """Keeps the state of distillation in checkpoints, under the top-level key ``mmkd``.

    ``Runner.train`` adds it by itself. What is kept: every distiller's ``state_dict`` and description, the states of
    :class:`StatefulHook` s, the teacher's config and the hash of its weights, and the states of the random generators, so
    that a resumed run draws what an uninterrupted one would have drawn. The generators are those of rank 0; mmengine seeds
    all ranks alike. Where ``diff_rank_seed`` is set they are not put back. Under DDP it also lets the optimiser leave
    weights that the last forward did not reach as they are.

    Args:
        interval: every how many iterations a GPU run is asked whether a feature was not finite (a host sync).
    """
    priority = 'LOW'  # before checkpoints are saved: what is not finite is reported, not saved

    def __init__(self, interval: int = 50):
        self.interval = interval
        self._rng: Optional[dict] = None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        distillation = distillation_of(runner)
        checkpoint[CHECKPOINT_KEY] = dict(
            version=CHECKPOINT_VERSION,
            distillers={name: {key: value.detach().cpu().clone() for key, value in distiller.state_dict().items()}
                        for name, distiller in distillation.distillers.items()},
            descriptions={name: _description(distiller) for name, distiller in distillation.distillers.items()},
            hooks={key: hook.state_dict() for key, hook in stateful_hooks(runner).items()},
            teacher=distillation.teacher.identity,
            rng=get_rng_state())

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            raise DistillationError('resume: the checkpoint holds no distillation state (key "mmkd"): it is not from a '
                                    'distillation run. To start from its weights, use load_from without resume.')
        distillation = distillation_of(runner)
        self._check(saved, distillation)
        for name, distiller in distillation.distillers.items():
            try:
                distiller.load_state_dict(saved['distillers'][name])
            except RuntimeError as error:
                raise DistillationError(f'resume: model.distillers.{name} is not the one of the checkpoint (pairs, reducer, '
                                        f'norm or widths have changed): {str(error).splitlines()[-1].strip()}') from None
        hooks, saved_hooks = stateful_hooks(runner), saved.get('hooks', {})
        if set(hooks) != set(saved_hooks):
            raise DistillationError(f'resume: the checkpoint has the state of the hooks {sorted(saved_hooks)}, the config '
                                    f'has {sorted(hooks)}.')
        for key, hook in hooks.items():
            hook.load_state_dict(saved_hooks[key])
        if not runner._randomness_cfg.get('diff_rank_seed', False):
            self._rng = saved['rng']

    @staticmethod
    def _check(saved: dict, distillation: Distillation) -> None:
        if saved['version'] != CHECKPOINT_VERSION:
            raise DistillationError(f'resume: the checkpoint has distillation state of version {saved["version"]}; '
                                    f'accepted: {CHECKPOINT_VERSION}.')
        ours, theirs = list(distillation.distillers), list(saved['distillers'])
        if ours != theirs:
            raise DistillationError(f'resume: the checkpoint has the distillers {theirs}, the config {ours}.')
        for name, distiller in distillation.distillers.items():
            if _description(distiller) != saved['descriptions'][name]:
                raise DistillationError(f'resume: model.distillers.{name} is not the one of the checkpoint. Checkpoint: '
                                        f'{saved["descriptions"][name]}. Config: {_description(distiller)}.')
        here, there = distillation.teacher.identity, saved['teacher']
        if here.get('sha256') != there.get('sha256'):
            raise DistillationError('resume: the checkpoint was distilled from a teacher with other weights '
                                    f'(sha256 {there.get("sha256", "")[:12]}..., now {here.get("sha256", "")[:12]}...).')

    def before_train(self, runner) -> None:
        if is_distributed():
            distillation, wrapper = distillation_of(runner), runner.optim_wrapper
            for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
                each.optimizer.register_step_pre_hook(lambda *_: distillation.forget_idle_gradients())

    def before_train_epoch(self, runner) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._restore_rng()

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        # An iteration-based loop has replayed the data of the iterations before, and with it what transforms drew from
        # Python's and numpy's generators in this process: those stand where they should.
        self._restore_rng(only=('torch', 'cuda'))

    def _restore_rng(self, only=None) -> None:
        if self._rng is not None:
            set_rng_state(self._rng, only)
            self._rng = None

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval):
            distillation_of(runner).raise_if_not_finite()

    def after_train(self, runner) -> None:
        distillation = distillation_of(runner)
        distillation.raise_if_not_finite()
        for name, distiller in distillation.distillers.items():
            if distiller.calibration is not None and not distiller.calibration.finished:
                print_log(f"model.distillers.{name}: the calibration of loss_scale='auto' was not finished in this run; the "
                          f'scale, last {distiller.scale:.6g}, was still moving. Give a smaller calibration_iters, or '
                          'a number.', runner.logger, level=logging.WARNING)


def _description(distiller: Distiller) -> str:
    """What has to be the same in a run that is resumed."""
    scale = '' if distiller.calibration is None else f", loss_scale 'auto' {distiller.calibration.describe()}"
    return distiller.describe() + scale


def distillation_of(runner: Runner) -> Distillation:
    """The attached distillation of a runner's model. Raises :class:`DistillationError` if the model has none."""
    model = unwrap(runner.model)
    distillation = getattr(model, 'distillation', None)
    if isinstance(model, DistilledMixin) and distillation is None:
        raise DistillationError(f'distillation is not attached: {type(runner).__name__}.train does not do it. Use '
                                "mmengine's Runner, or call model.attach_distillation() before the optimiser is built.")
    if distillation is None:
        raise DistillationError("the model is not distilled: mmkd hooks need model=dict(type='mmkd.DistilledModel', ...)")
    return distillation


def attach_to_runner(runner: Runner) -> None:
    """Attaches distillation to a runner's model, if it is a distilled one, and adds the :class:`DistillationHook`."""
    model = unwrap(runner.model)
    if not isinstance(model, DistilledMixin) or model.distillation is not None:
        return
    stateful_hooks(runner)
    model.attach_distillation()
    if is_model_wrapper(runner.model):
        # DDP learns its parameters when it is made, and the adapters have just come. The old wrapper's gradient hooks
        # go with it.
        runner.model = None
        gc.collect()
        runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
    if not any(isinstance(hook, DistillationHook) for hook in runner.hooks):
        runner.register_hook(DistillationHook())
    names = ', '.join(f'{name} ({type(distiller).__name__})' for name, distiller in model.distillation.distillers.items())
    print_log(f'distillation: {names}', logger=runner.logger)


def extend_runner() -> None:
    """Makes ``Runner.train`` attach distillation first.

    The Runner has no event between building the model and building the optimiser, and only in ``train`` is it known that
    a teacher will be needed. Runs of other models are not affected.
    """
    if getattr(Runner.train, 'attaches_distillation', False):
        return
    train = Runner.train

    @functools.wraps(train)
    def train_with_distillation(self):
        attach_to_runner(self)
        return train(self)

    train_with_distillation.attaches_distillation = True
    Runner.train = train_with_distillation
