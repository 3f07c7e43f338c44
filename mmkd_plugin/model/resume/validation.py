"""The validation that was still to come when a checkpoint was saved."""
from typing import Any, Mapping

from mmengine.hooks import Hook, SyncBuffersHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from ...utils.isolation import preserved_rng
from .generators import Generators


def is_before_validation(runner: Runner, meta: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is saved before the loop asks whether to validate: it counts one more than the loop then.

    Args:
        runner: the runner that saves it.
        meta: what the checkpoint holds as ``meta``: its epoch and iteration.
    """
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        return bool(meta['epoch'] == runner.epoch + 1)
    return bool(meta['iter'] == runner.iter + 1)


class ValidatesFirst(Hook):
    """Catches up on a validation when a run is resumed.

    mmengine saves a checkpoint, validates, and trains on. Resumed from that checkpoint, it trains on at once: the best
    checkpoint may be missed, and what validation draws from the random generators is not drawn.

    Args:
        generators: the generators of the checkpoint; the validation draws from them.
    """
    priority = 'LOWEST'  # every other hook is ready for training

    def __init__(self, generators: Generators):
        self.is_due = False
        self._generators = generators

    def before_train(self, runner: Runner) -> None:
        if not self.is_due:
            return
        self.is_due = False
        if not _wants_validation(runner):
            return
        print_log('resume: the checkpoint was saved before a validation, which comes first', runner.logger)
        for hook in runner.hooks:
            if isinstance(hook, SyncBuffersHook):  # the end of an epoch has synchronised them
                hook.called_in_train = isinstance(runner.train_loop, EpochBasedTrainLoop)
        # OneDL's loop starts its workers after this: their seed has to be drawn from where the uninterrupted run drew it.
        with preserved_rng():
            self._generators.advance()
            runner.val_loop.run()
            self._generators.hold_on()


def _wants_validation(runner: Runner) -> bool:
    """Whether the train loop would have validated after what it has done: the condition of mmengine's loops."""
    loop = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return False
    loop._decide_current_val_interval()
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    return bool(done >= loop.val_begin and (done % loop.val_interval == 0 or done == last))
