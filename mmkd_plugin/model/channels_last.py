"""The student's memory format, chosen by measuring at the start of a run."""
import copy
from dataclasses import dataclass
from typing import Any, Dict

from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ..registry import HOOKS
from ..runtime import choose
from ..runtime.memory_format import follow_parameters, in_plain_format, set_format, unfit_for_channels_last
from ..utils import options
from ..utils.errors import DistillationError, under
from ..utils.isolation import preserved_rng
from ..utils.options import Choice, option
from .format_trial import OTHER, PLAIN, FormatTrial, of_rank_0
from .student import unwrap

CHOICE = 'mmkd_channels_last'
"""Under which name mmengine's message hub, which every checkpoint holds, has what was chosen."""


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Trains the student in the memory format in which it is faster, with or without distillation.

    Before the first iteration a copy of the model takes training steps on the first batch, in turn in both formats, and the
    faster one is taken; where that is not beyond doubt, the plain one. The run itself is not touched: neither weights,
    statistics, random numbers, nor the batch. What was chosen is kept in the checkpoint, so that a run that is resumed goes
    on in the same format, without measuring. Checkpoints are those of any run: all their tensors are in the plain format.

    Before a model is put into the format, gradients of both formats are compared: some operators read memory as if it were
    in the plain order, and would train on nonsense.

    Args:
        given: see ``Options``.
    """
    priority = 'VERY_LOW'  # after searches have prepared the iteration; before_save_checkpoint after all have added theirs

    @dataclass(frozen=True, kw_only=True)
    class Options(options.Options):
        """The options of the hook."""
        mode: str = option(Choice(('auto', 'on', 'off')), 'auto', "'auto': channels_last where a measurement at the start "
                           "(less than 10 seconds, or nine steps) finds that faster; 'on': without a measurement; 'off': "
                           'the plain format')

    def __init__(self, **given: Any):
        with under('ChannelsLastHook'):
            self.options: Any = self.Options.read(given)
        self._settled = self.options.mode == 'off'

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """A run that is resumed goes on in the format it had, from here on: a validation may come before training."""
        hub = checkpoint.get('message_hub')
        kept = hub.get('runtime_info', {}).get(CHOICE) if runner._resume and isinstance(hub, dict) else None
        if self._settled or not isinstance(kept, bool) or (self.options.mode == 'on' and not kept):
            return
        self._settled = True
        if kept:
            self._convert(runner)
        _say(runner, f'{OTHER if kept else PLAIN}, as in the run that is resumed')

    def before_train(self, runner: Runner) -> None:
        if self.options.mode == 'off':
            runner.message_hub.update_info(CHOICE, False)
        _follow(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._settled:
            return
        self._settled = True
        decided = self._decide(runner, data_batch)
        if decided:
            self._convert(runner)
            _follow(runner)
        runner.message_hub.update_info(CHOICE, decided)

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        checkpoint.update(in_plain_format(checkpoint))

    def after_run(self, runner: Runner) -> None:
        """The model is handed back as a run in the plain format would."""
        set_format(unwrap(runner.model), False)

    @staticmethod
    def _convert(runner: Runner) -> None:
        set_format(unwrap(runner.model), True)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):  # means of tensors in one format are faster
                set_format(hook.ema_model, True)

    def _decide(self, runner: Runner, data_batch: Any) -> bool:
        """Whether the student is to be trained in channels_last; says why in one line of the log."""
        asked = self.options.mode == 'on'
        reason = _unfit(runner, asked)
        if not reason:
            with preserved_rng():
                trial = _trial(runner, data_batch)
                reason = of_rank_0(trial.problem)
                if not reason and asked:
                    _say(runner, f'{OTHER}, as the config says; gradients agree to {trial.difference:.0e}')
                    return True
                if not reason:
                    timings = trial.time()
                    chosen: str = of_rank_0(choose(timings, PLAIN))
                    _say(runner, f'{chosen}; a training step takes {timings.ratio(OTHER, PLAIN):.2f} of the plain one in '
                         f'{OTHER} (median of {timings.rounds} rounds, {trial.spent:.1f} s; gradients agree to '
                         f'{trial.difference:.0e})')
                    return chosen == OTHER
        if asked:
            raise DistillationError(f'cannot be: {reason}', path='ChannelsLastHook.mode', given='on',
                                    accepted="'auto' or 'off'")
        _say(runner, f'{PLAIN}, unmeasured: {reason}')
        return False


def _trial(runner: Runner, data_batch: Any) -> FormatTrial:
    model, context = unwrap(runner.model), runner.optim_wrapper.optim_context
    preprocessor: Any = model.data_preprocessor
    with context(model):
        # Copies: preprocessors of segmentors pad the labels where they are, and some count.
        data = copy.deepcopy(preprocessor)(copy.deepcopy(data_batch), True)
    return FormatTrial(model, context, data)


def _unfit(runner: Runner, asked: bool) -> str:
    """Why nothing can be tried on a runner's model, in words; empty where it can."""
    model = unwrap(runner.model)
    if not isinstance(model, BaseModel) or type(model).train_step is not BaseModel.train_step:
        return f'{type(model).__name__} has a training step of its own'
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        return 'the run has several optimisers'
    if runner.cfg.get('compile') and not asked:
        return 'torch.compile (the key compile) chooses formats itself'
    return unfit_for_channels_last(model)


def _follow(runner: Runner) -> None:
    wrapper = runner.optim_wrapper
    for each in wrapper.values() if hasattr(wrapper, 'optim_wrappers') else [wrapper]:
        follow_parameters(each.optimizer)


def _say(runner: Runner, what: str) -> None:
    print_log(f"the student's memory format: {what}", runner.logger)
