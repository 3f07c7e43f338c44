"""What a checkpoint keeps of distillation, and how a run goes on from it; the parts of it are in ``resume``."""
import logging
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..distiller import ComparesLosses
from ..registry import HOOKS
from ..utils import options
from ..utils.checkpoint_files import require_weights
from ..utils.errors import DistillationError, under
from ..utils.isolation import get_rng_state
from ..utils.options import Number, option
from ..utils.records import Entry, Plain
from . import resume
from .student import distillation_of


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

    def state_entry(self) -> Entry:
        """What :meth:`load_state_dict` accepts; a state of a checkpoint that is anything else is refused before."""
        return Plain()


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
    :class:`StatefulHook` s, the teacher's config and the hash of its weights, and for each rank what it alone has: random
    generators, those of loader workers that live on, buffers that differ, accumulated gradients. So a run that is resumed
    is the uninterrupted one, bit for bit. Under DDP it also lets the optimiser leave weights that the last forward did not
    reach as they are, and refuses epochs that are longer on one rank.

    Args:
        given: see ``Options``.

    Attributes:
        settings: the options of the run, set when distillation is attached; a checkpoint keeps them.
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
        self.generators = resume.Generators()
        self.settings: resume.Settings = {}
        self._workers: Optional[resume.LoaderWorkers] = None
        self._ranks: Optional[List[Mapping[str, Any]]] = None
        self._own: Mapping[str, Any] = {}

    def before_saving_on_every_rank(self, runner: Runner) -> None:
        """Brings to rank 0 what every rank has of its own; ``CheckpointHook`` calls for it."""
        self._ranks = resume.gathered(self._own_state(runner, resume.own_buffers(runner)))

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        # A checkpoint that others save, on rank 0 alone, has the state of that rank only.
        ranks, self._ranks = self._ranks or [self._own_state(runner, {})], None
        distillation, meta = distillation_of(runner), checkpoint['meta']
        checkpoint[resume.KEY] = resume.Section(
            distillers={name: {key: value.detach().cpu().clone() for key, value in distiller.state_dict().items()}
                        for name, distiller in distillation.distillers.items()},
            descriptions={name: resume.describe(distiller) for name, distiller in distillation.distillers.items()},
            hooks={key: hook.state_dict() for key, hook in stateful_hooks(runner).items()},
            teacher=distillation.teachers.identity, runtime=distillation.teachers.choices, position=resume.position_of(meta),
            validated=not resume.is_before_validation(runner, meta), ranks=ranks, settings=self.settings).content()

    def _own_state(self, runner: Runner, buffers: Dict[str, Any]) -> Dict[str, Any]:
        return dict(rng=get_rng_state(), workers=self._workers.states() if self._workers is not None else {},
                    buffers=buffers, gradients=resume.accumulated_gradients(runner))

    def go_on_from(self, runner: Runner, section: resume.Section) -> None:
        """Puts a checked section of a checkpoint in place, as far as that is possible before training.

        Args:
            runner: the runner that is resumed.
            section: what its checkpoint keeps of distillation.
        """
        self._own = resume.own_part(runner, section.ranks)
        for name, distiller in distillation_of(runner).distillers.items():
            distiller.load_state_dict(resume.state_on_this_rank(name, section.distillers[name],
                                                                self._own.get('buffers', {})))
        for key, hook in stateful_hooks(runner).items():
            hook.load_state_dict(section.hooks[key])
        for name, choice in (section.runtime or {}).items():
            distillation_of(runner).teachers.runtimes[name].take(choice)
        if 'rng' in self._own:
            self.generators.hold(self._own['rng'])

    def before_train(self, runner: Runner) -> None:
        resume.check_even_epochs(runner)
        self._workers = resume.LoaderWorkers(runner)
        if self._own:
            self._workers.begin_with(self._own.get('workers', {}))
            resume.give_back_buffers(runner, self._own.get('buffers', {}))
            resume.give_back_gradients(runner, self._own.get('gradients', {}))
            self._own = {}
        if is_distributed():
            distillation, wrapper = distillation_of(runner), runner.optim_wrapper
            for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
                each.optimizer.register_step_pre_hook(lambda *_: distillation.idle.forget_gradients())

    def before_train_epoch(self, runner: Runner) -> None:
        self.generators.epoch_begins(runner)

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
            moving = distiller.unsettled() if isinstance(distiller, ComparesLosses) else []
            if moving:
                print_log(f'{distiller.path}: the scales of {", ".join(moving)} were not settled in this run; they moved to '
                          'its end. Train for longer; a mmkd.DistProDistiller of your own also takes a smaller scale_iters, '
                          'or numbers for scales.', runner.logger, level=logging.WARNING)


class ResumeHook(Hook):
    """Checks the checkpoint a distilled run is resumed from, all of it, before anything takes something from it.

    Args:
        keeper: the hook that goes on from what is kept of distillation.
        validates_first: the hook that catches up on a validation.
    """
    priority = 'HIGHEST'  # before hooks such as EMAHook take what is theirs

    def __init__(self, keeper: DistillationHook, validates_first: resume.ValidatesFirst):
        self._keeper, self._validates_first = keeper, validates_first

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        if not runner._resume:
            with under('load_from'):
                require_weights(checkpoint, runner._load_from)
            return
        resume.check_outline(checkpoint)
        entries = {key: hook.state_entry() for key, hook in stateful_hooks(runner).items()}
        section = resume.read_section(checkpoint, distillation_of(runner), entries)
        resume.check_own(runner, section.ranks)
        resume.check_parts(runner, checkpoint)
        self._warn(runner, checkpoint['meta'])
        self._warn_of_changes(runner, section)
        self._keeper.go_on_from(runner, section)
        self._validates_first.is_due = section.validated is False

    def _warn(self, runner: Runner, meta: Mapping[str, Any]) -> None:
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and meta['iter'] != meta['epoch'] * len(loop.dataloader):
            print_log(f'resume: the checkpoint was saved after {meta["iter"]} iterations, which are not {meta["epoch"]} '
                      f'epochs of {len(loop.dataloader)}: within an epoch, or with another data set or batch size. The '
                      'epoch begins with its first batch; the run is not bit-equal to one that was not interrupted.',
                      runner.logger, level=logging.WARNING)

    def _warn_of_changes(self, runner: Runner, section: resume.Section) -> None:
        changes = resume.changed_settings(section.settings, self._keeper.settings)
        if changes:
            print_log(f'resume: since the checkpoint was saved, options have changed: {"; ".join(changes)}. The run goes on '
                      'with the present ones, so it is not the one that was begun.', runner.logger,
                      level=logging.WARNING)
