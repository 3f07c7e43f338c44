"""How strong a distiller is: its weight, its schedule, and a scale that can be found by comparing gradients."""
import logging
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..utils.errors import DistillationError
from ..utils.mmrazor import OF_DISTILLERS
from ..utils.options import Either, Flag, Number, Options, option
from ..utils.records import Array, ChecksState, Entry
from .gradients import GradientComparison
from .pairs import short_names

SETTLING_WINDOW, SETTLING_LIMIT = 200, 2000
SETTLED = 0.15  # of the logarithm: 15 %
LARGEST_LOG = 60
"""Of a scale, its natural logarithm: beyond 1e26 one of the gradients is as good as 0."""
# Between batches the scale varies by less than 10 in ordinary trainings.
SUSPICIOUS_SPREAD = 100.0


@dataclass(frozen=True, kw_only=True)
class StrengthOptions(Options):
    """What every distiller takes."""
    elsewhere = OF_DISTILLERS
    loss_weight: float = option(Number(least=0), 1.0, 'factor of all its losses; at 0 it costs nothing')
    begin: int = option(Number(least=0, whole=True), 0, 'first iteration at which it acts')
    end: Optional[int] = option(Either(Number(least=0, whole=True), (None,)), None,
                                'first iteration at which it no longer acts; None for never')
    warmup: int = option(Number(least=0, whole=True), 0,
                         'iterations over which the weight rises linearly from 0, starting at `begin`; it has to be reached')
    every: int = option(Number(above=0, whole=True), 1, 'it acts in every so many iterations, counted from `begin`; in the '
                        'others it costs nothing')
    scale_by_every: bool = option(Flag(), True, 'whether its weight is multiplied by `every`, so that it is as strong on '
                                  'the average as in every iteration')
    fraction: float = option(
        Number(above=0, most=1), 1.0, 'the part of every batch that the teacher and the losses look at: as many images, '
        'rounded, one at least, drawn anew in every iteration')
    loss_scale: Union[float, str] = option(
        Either(Number(above=0), ('auto',)), 1.0, "a second factor; 'auto': found in the first iterations so that with "
        "weight 1 the gradient at the student's taps is as strong as the task loss's, then frozen, logged, and kept in the "
        'checkpoint')
    calibration_iters: Optional[int] = option(
        Either(Number(above=0, most=100000, whole=True), (None,)), None,
        "how many iterations 'auto' takes (of those in which it acts); None: until the ratio has settled (200 to 2000)",
        dict(loss_scale=('auto',)))
    log_gradients: int = option(
        Number(least=0, whole=True), 0, "every how many iterations the ratio of the gradients (the distiller's, weighted, "
        "to the task loss's) and their cosine are logged; 0 for never. Such an iteration costs two backward passes down to "
        'the taps more')

    def check(self, given: Sequence[str]) -> None:
        if self.end is not None and self.end <= self.begin:
            raise DistillationError(path='end', given=self.end, accepted=f'a whole number > {self.begin} (begin), or None')
        if self.every == 1 and not self.scale_by_every:
            raise DistillationError('has no meaning with every=1', path='scale_by_every', given=False,
                                    accepted='True, or every > 1 beside it')
        if self.end is not None and self.loss_weight:
            self.check_every(self.end)
            self.check_warmup(self.end)
        if self.loss_weight and not isinstance(self.loss_scale, str) and not Number(above=0).fits(
                self.weight * self.loss_scale):
            scaled = '' if self.weight == self.loss_weight else f' and every {self.every}'
            raise DistillationError(f'times loss_weight {self.loss_weight:g}{scaled} is out of the range of float32',
                                    path='loss_scale', given=self.loss_scale,
                                    accepted='factors whose product float32 can hold')
        needed = self.calibration_iters or SETTLING_WINDOW
        if self.loss_scale == 'auto' and self.end is not None and len(self.acting(self.end)) < needed:
            thinned = f', every {self.every}' if self.every > 1 else ''
            raise DistillationError(
                f"'auto' takes {needed} iterations at least, but the distiller acts in {len(self.acting(self.end))} (begin "
                f'{self.begin}, end {self.end}{thinned})', path='calibration_iters',
                accepted='no more, or a number for loss_scale')

    @property
    def weight(self) -> float:
        """The factor of its losses where it acts, at the end of the warmup."""
        return self.loss_weight * self.every if self.scale_by_every else self.loss_weight

    def acting(self, end: int) -> range:
        """The iterations in which it acts before ``end``, whatever its weight."""
        return range(self.begin, end, self.every)

    def check_every(self, end: int) -> None:
        """Raises :class:`DistillationError` where the distiller would act just once, as ``every`` is too long.

        Args:
            end: the first iteration in which it no longer acts, > ``begin``.
        """
        left = end - self.begin
        if self.every > 1 and self.every >= left:
            raise DistillationError(f'is too long: from iteration {self.begin} on there are {left}, so it would act just '
                                    'once', path='every', given=self.every,
                                    accepted=f'a whole number > 0 and <= {max(1, left - 1)}')

    def check_warmup(self, end: int) -> None:
        """Raises :class:`DistillationError` where the weight has not risen to its full height when the distiller ends.

        Args:
            end: the first iteration in which it no longer acts.
        """
        acting = self.acting(end)
        longest = acting[-1] - self.begin + 1 if acting else 0
        if self.warmup > longest:
            raise DistillationError(f'is too long: the weight rises from iteration {self.begin} on and never gets to '
                                    f'loss_weight before it ends at {end}', path='warmup', given=self.warmup,
                                    accepted=f'a whole number <= {longest}')


class Strength(nn.Module):
    """The factor of a distiller's losses at an iteration.

    Args:
        options: its weight, schedule and scale.

    Attributes:
        calibration: what finds the scale with ``loss_scale='auto'``; None where the scale is given.
    """

    def __init__(self, options: StrengthOptions):
        super().__init__()
        self.options = options
        self.calibration = ScaleCalibration(options.calibration_iters) if options.loss_scale == 'auto' else None

    def weight_at(self, iteration: int) -> float:
        """``loss_weight`` times its schedule at a global iteration: a function of it alone, so it survives resuming.

        With ``every=k``, k times that in every k-th iteration, and 0 in the others.
        """
        options = self.options
        begin, end, warmup = options.begin, options.end, options.warmup
        if iteration < begin or (end is not None and iteration >= end) or (iteration - begin) % options.every:
            return 0.0
        return options.weight * min(1.0, (iteration - begin + 1) / warmup) if warmup else options.weight

    @property
    def scale(self) -> float:
        """The factor beside the weight: ``loss_scale``, or what its calibration has found so far."""
        return float(self.options.loss_scale) if self.calibration is None else self.calibration.scale

    def compares(self, iteration: int) -> bool:
        """Whether gradients are to be compared with the task loss's at an iteration, for the scale or for the log."""
        return self._calibrating or self._logs(iteration)

    def take(self, comparisons: Dict[str, GradientComparison], iteration: int, weight: float, path: str) -> Dict[str, float]:
        """Calibrates the scale, if that is going on; returns what is to be logged, by ``gradient_*``.

        Args:
            comparisons: by student tap, the gradient of the unweighted loss compared with the task loss's.
            iteration: the global iteration.
            weight: the distiller's weight at this iteration.
            path: where the distiller stands in the config, for the log.
        """
        total = sum(comparisons.values(), GradientComparison(0, 0, 0))
        if self.calibration is not None and self._calibrating:
            self.calibration.observe(total, path)
        if not self._logs(iteration):
            return {}
        factor = weight * self.scale
        log = {}
        taps = zip((f'_{short}' for short in short_names(list(comparisons))), comparisons.values())
        for suffix, comparison in (('', total), *taps):
            if comparison.ratio is not None and comparison.cosine is not None:
                log[f'gradient_ratio{suffix}'] = comparison.ratio * factor
                log[f'gradient_cosine{suffix}'] = comparison.cosine
        return log

    @property
    def _calibrating(self) -> bool:
        return self.calibration is not None and not self.calibration.finished

    def _logs(self, iteration: int) -> bool:
        # With `every`, where it may not act in a multiple of log_gradients: the first time from there on.
        interval = self.options.log_gradients
        return interval > 0 and iteration % interval < self.options.every


class ScaleCalibration(nn.Module, ChecksState):
    """``loss_scale='auto'``: the factor that makes a distiller's gradient as strong as the task loss's.

    The geometric mean of ``||g_task|| / ||g_distillation||``, both taken at all of the distiller's student taps together,
    over the later half of a window of iterations; then frozen. Until then the later half of the window so far is used.
    Its buffers are part of the distiller's state.

    At the start of a training from scratch both gradients change by orders of magnitude within a hundred iterations. So the
    window moves on until the means of its four quarters agree within 15 %.

    Args:
        iterations: the window is the first so many iterations. None: it holds 200 and moves on until the ratio has
            settled, for 2000 at most.
        key, window: the option it is for, and the one that says how many iterations; for messages.
    """
    log_scales: Tensor
    counted: Tensor
    frozen: Tensor

    def __init__(self, iterations: Optional[int] = None, key: str = 'loss_scale', window: str = 'calibration_iters'):
        super().__init__()
        self.iterations, self.key, self.window = iterations, key, window
        self.limit = iterations or SETTLING_LIMIT
        self.register_buffer('log_scales', torch.zeros(iterations or SETTLING_WINDOW))
        self.register_buffer('counted', torch.zeros((), dtype=torch.long))
        self.register_buffer('frozen', torch.zeros((), dtype=torch.bool))
        self.finished = False
        # The buffers' content on the host, so that asking costs no sync.
        self._window: List[float] = []
        self._counted = self._rejected = 0
        self._goes_on = False

    def describe(self) -> str:
        """For how long it goes on, in words."""
        return 'until it settles' if self.iterations is None else f'over {self.iterations} iterations'

    @property
    def scale(self) -> float:
        """What has been found so far, 1 before anything has."""
        return math.exp(_mean(self._window[len(self._window) // 2:])) if self._window else 1.0

    @property
    def settled(self) -> bool:
        """Whether the window is full and its quarters agree."""
        length = min(len(self.log_scales), self.limit)  # a short search has a shorter window than its option says
        if len(self._window) < length:
            return False
        step = max(1, length // 4)
        means = [_mean(self._window[begin:begin + step]) for begin in range(0, length - step + 1, step)]
        return max(means) - min(means) < SETTLED

    def observe(self, comparison: GradientComparison, path: str) -> None:
        """Takes one iteration into account, unless a gradient was 0 in it, not finite, or as good as 0 beside the other.

        Args:
            comparison: the distiller's gradients at all taps together, compared with the task loss's.
            path: where the distiller stands in the config, for the log.

        Raises:
            DistillationError: when that has been so in as many iterations as the calibration takes; not where it goes on
                after it had found a scale.
        """
        found = None if comparison.ratio is None else -math.log(comparison.ratio)
        if found is None or abs(found) >= LARGEST_LOG:
            self._rejected += 1
            if self._rejected >= self.limit and not self._goes_on:
                raise DistillationError(
                    f'found no scale: in {self._rejected} iterations a gradient at the taps was 0, not finite, or 1e26 '
                    f'times the other (squared norms in the last: task loss {comparison.task:g}, distiller '
                    f'{comparison.distillation:g})',
                    path=self.key, given='auto', accepted='a number, or taps that both losses reach')
            return
        length = len(self.log_scales)
        # Rounded as the buffer is: a resumed run has the same numbers.
        rounded = float(torch.tensor(found, dtype=torch.float32))
        self._window = [*self._window, rounded][-length:]
        self._counted += 1
        self.finished = self._counted >= self.limit or (self.iterations is None and self.settled)
        self.log_scales[:len(self._window)] = torch.tensor(self._window, device=self.log_scales.device)
        self.counted.fill_(self._counted)
        self.frozen.fill_(self.finished)
        if self.finished:
            self._report(path)

    def go_on(self) -> None:
        """Opens a second window after the first, which had ``limit`` iterations: what was found moves on.

        To be called again in a run that is resumed.
        """
        if self._counted <= self.limit:  # of the second window nothing has been counted
            self.finished = False
            self.frozen.fill_(False)
        self.limit += self.iterations or SETTLING_LIMIT
        self._goes_on = True

    def finish(self) -> None:
        """Freezes the scale as it is, without a word."""
        self.finished = True
        self.frozen.fill_(True)

    def state_entries(self) -> Dict[str, Entry]:
        """What its buffers have to be in a run that is resumed: what a calibration can come to."""
        most = 2 * (self.iterations or SETTLING_LIMIT)  # where it has gone on, there were two windows
        return dict(log_scales=Array(torch.float32, tuple(self.log_scales.shape), least=-LARGEST_LOG, below=LARGEST_LOG),
                    counted=Array(torch.long, (), least=0, below=most + 1))

    def _report(self, path: str) -> None:
        low, high = math.exp(min(self._window)), math.exp(max(self._window))
        print_log(f'{path}: {self.key} frozen at {self.scale:.6g} after {self._counted} iterations '
                  f"({low:.3g} to {high:.3g}): with it the gradient at the taps is loss_weight times the task's", 'current')
        if not self.settled or high > SUSPICIOUS_SPREAD * low:
            print_log(f'{path}: the scale had not settled then. Look at log_gradients, and at the task '
                      f'loss (has it vanished?); give another {self.window} or a number.', 'current',
                      level=logging.WARNING)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._counted, self.finished = int(self.counted), bool(self.frozen)
        self._window = self.log_scales[:min(self._counted, len(self.log_scales))].tolist()


def _mean(values: List[float]) -> float:
    return math.fsum(values) / len(values)
