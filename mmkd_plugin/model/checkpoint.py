"""What a checkpoint keeps of distillation, and how a run goes on from it."""
import logging
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence

from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ..distiller import Distiller
from ..registry import HOOKS
from ..utils import options
from ..utils.errors import DistillationError, under
from ..utils.isolation import get_rng_state, set_rng_state
from ..utils.options import Number, option
from .distillation import Distillation
from .overlay import DistilledMixin

CHECKPOINT_KEY = 'mmkd'
CHECKPOINT_VERSION = 2


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a DDP wrapper, or the model itself."""
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module), 'a wrapper holds a module'
    return inner


def distilled(runner: Runner) -> DistilledMixin:
    """The student of a runner, out of its DDP wrapper. Raises :class:`DistillationError` if it is not distilled."""
    model = unwrap(runner.model)
    if not isinstance(model, DistilledMixin):
        raise DistillationError("the model is not distilled: mmkd hooks need model=dict(type='mmkd.DistilledModel', ...)",
                                path='model.type', given=type(model).__name__)
    return model


def distillation_of(runner: Runner) -> Distillation:
    """The attached distillation of a runner's model. Raises :class:`DistillationError` if the model has none."""
    distillation = distilled(runner).distillation
    if distillation is None:
        raise DistillationError(f'distillation is not attached: {type(runner).__name__}.train does not do it',
                                hint="Use mmengine's Runner, or call model.attach_distillation() before the optimiser is "
                                'built.')
    return distillation


class StatefulHook(Hook):
    """A hook with a state that belongs into the checkpoint; it is kept under ``mmkd``, by :class:`DistillationHook`.

    Attributes:
        state_key: what the state is called there; one hook of a run has it.
    """
    state_key: str

    def state_dict(self) -> Dict[str, Any]:
        """Tensors, numbers, text, lists and dicts of them only: checkpoints are read without executing anything."""
        raise NotImplementedError

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Takes what :meth:`state_dict` returned; called when a run is resumed, before ``before_train``."""
        raise NotImplementedError


def stateful_hooks(runner: Runner) -> Dict[str, StatefulHook]:
    """The stateful hooks of a runner by key. Raises :class:`DistillationError` if two share one."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, StatefulHook)]
    by_key = {hook.state_key: hook for hook in hooks}
    for hook in hooks:
        other = by_key[hook.state_key]
        if other is not hook:
            raise DistillationError(f'{type(hook).__name__} and {type(other).__name__} are two of one kind',
                                    path='custom_hooks', accepted='one')
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
        given: see ``Options``.
    """
    priority = 'LOW'  # before checkpoints are saved: what is not finite is reported, not saved

    @dataclass(frozen=True, kw_only=True)
    class Options(options.Options):
        """The options of the hook."""
        interval: int = option(Number(above=0, whole=True), 50, 'every how many iterations a GPU run is asked whether a '
                               'feature was not finite (a host sync)')

    def __init__(self, **given: Any):
        with under('DistillationHook'):
            self.options = self.Options.read(given)
        self._rng: Optional[Dict[str, Any]] = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        distillation = distillation_of(runner)
        checkpoint[CHECKPOINT_KEY] = dict(
            version=CHECKPOINT_VERSION,
            distillers={name: {key: value.detach().cpu().clone() for key, value in distiller.state_dict().items()}
                        for name, distiller in distillation.distillers.items()},
            descriptions={name: _description(distiller) for name, distiller in distillation.distillers.items()},
            hooks={key: hook.state_dict() for key, hook in stateful_hooks(runner).items()},
            teacher=distillation.teacher.identity,
            rng=get_rng_state())

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        if not runner._resume:
            return
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            raise _refused('the checkpoint holds no distillation state (key "mmkd"): it is not from a distillation run',
                           'To start from its weights, use load_from without resume.')
        distillation = distillation_of(runner)
        self._check(saved, distillation)
        for name, distiller in distillation.distillers.items():
            try:
                distiller.load_state_dict(saved['distillers'][name])
            except RuntimeError as error:
                raise _refused(f'{distiller.path} is not the one of the checkpoint (pairs, reducer, norm or widths have '
                               f'changed): {str(error).splitlines()[-1].strip()}') from None
        hooks, saved_hooks = stateful_hooks(runner), saved.get('hooks', {})
        if set(hooks) != set(saved_hooks):
            raise _refused(f'the checkpoint has the state of the hooks {sorted(saved_hooks)}, the config has '
                           f'{sorted(hooks)}')
        for key, hook in hooks.items():
            hook.load_state_dict(saved_hooks[key])
        if not runner._randomness_cfg.get('diff_rank_seed', False):
            self._rng = saved['rng']

    @staticmethod
    def _check(saved: Dict[str, Any], distillation: Distillation) -> None:
        if saved['version'] != CHECKPOINT_VERSION:
            raise _refused(f'the checkpoint has distillation state of version {saved["version"]}, this package goes on from '
                           f'version {CHECKPOINT_VERSION}', 'Finish the run with the mmkd_plugin it was begun with (version '
                           '1: 0.1), or start from its weights with load_from without resume.')
        ours, theirs = list(distillation.distillers), list(saved['distillers'])
        if ours != theirs:
            raise _refused(f'the checkpoint has the distillers {theirs}, the config {ours}')
        for name, distiller in distillation.distillers.items():
            if _description(distiller) != saved['descriptions'][name]:
                raise _refused(f'{distiller.path} is not the one of the checkpoint. Checkpoint: '
                               f'{saved["descriptions"][name]}. Config: {_description(distiller)}')
        here, there = distillation.teacher.identity, saved['teacher']
        if here.get('sha256') != there.get('sha256'):
            raise _refused('the checkpoint was distilled from a teacher with other weights (sha256 '
                           f'{there.get("sha256", "")[:12]}..., now {here.get("sha256", "")[:12]}...)')

    def before_train(self, runner: Runner) -> None:
        if is_distributed():
            distillation, wrapper = distillation_of(runner), runner.optim_wrapper
            for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
                each.optimizer.register_step_pre_hook(lambda *_: distillation.idle.forget_gradients())

    def before_train_epoch(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._restore_rng()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        # An iteration-based loop has replayed the data of the iterations before, and with it what transforms drew from
        # Python's and numpy's generators in this process: those stand where they should.
        self._restore_rng(only=('torch', 'cuda'))

    def _restore_rng(self, only: Optional[Sequence[str]] = None) -> None:
        if self._rng is not None:
            set_rng_state(self._rng, only)
            self._rng = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.every_n_train_iters(runner, self.options.interval):
            distillation_of(runner).non_finite.report()

    def after_train(self, runner: Runner) -> None:
        distillation = distillation_of(runner)
        distillation.non_finite.report()
        for distiller in distillation.distillers.values():
            strength = distiller.strength
            if strength.calibration is not None and not strength.calibration.finished:
                print_log(f"{distiller.path}: the calibration of loss_scale='auto' was not finished in this run; the scale, "
                          f'last {strength.scale:.6g}, was still moving. Give a smaller calibration_iters, or a number.',
                          runner.logger, level=logging.WARNING)


def _description(distiller: Distiller) -> str:
    """What has to be the same in a run that is resumed."""
    calibration = distiller.strength.calibration
    return distiller.describe() + ('' if calibration is None else f", loss_scale 'auto' {calibration.describe()}")


def _refused(problem: str, hint: str = '') -> DistillationError:
    return DistillationError(problem, path='resume', hint=hint)
