"""How strong a distiller pulls at the tapped features, compared with the task loss; and scaling it by that."""
import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Dict, List, Optional

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from .errors import DistillationError, check_number

# With float16 on the way, gradients of an unscaled loss vanish, those of a scaled one may overflow. Tried in this order; the
# scale cancels in what is returned.
HALF_SCALES = (2.0 ** 16, 2.0 ** 8, 1.0)
SETTLING_WINDOW, SETTLING_LIMIT = 200, 2000
SETTLED = 0.15  # of the logarithm: 15 %
# Between batches the scale varies by less than 10 in ordinary trainings.
SUSPICIOUS_SPREAD = 100.0


@dataclass(frozen=True)
class GradientComparison:
    """Two gradients at one or several features.

    Attributes:
        task: squared norm of the task loss's gradient.
        distillation: squared norm of the distiller's, at weight and scale 1.
        inner: their inner product.
    """
    task: float
    distillation: float
    inner: float

    def __add__(self, other: 'GradientComparison') -> 'GradientComparison':
        return GradientComparison(self.task + other.task, self.distillation + other.distillation, self.inner + other.inner)

    @property
    def ratio(self) -> Optional[float]:
        """||distillation|| / ||task||; None where one of them is 0 or not finite."""
        if not (0 < self.task < math.inf and 0 < self.distillation < math.inf):
            return None
        return math.sqrt(self.distillation / self.task)

    @property
    def cosine(self) -> Optional[float]:
        """Cosine of the angle between the two; None as for :attr:`ratio`."""
        return None if self.ratio is None else self.inner / math.sqrt(self.task * self.distillation)


def feature_gradients(loss: Tensor, edges: Dict[str, GradientEdge], half: bool = False) -> Dict[str, Tensor]:
    """Gradient of ``loss`` at each feature, in float32, the graph kept; a scalar 0 where it does not depend on the feature.

    Args:
        loss: a scalar.
        edges: where each feature stands in the graph, by address.
        half: operations between the features and the loss may be in float16.

    Raises:
        DistillationError: if a re-entrant activation checkpoint, which cannot do this, lies on the way.
    """
    for scale in HALF_SCALES if half else (1.0,):
        found = _scaled_gradients(loss, edges, scale)
        if scale == 1 or all(bool(gradient.isfinite().all()) for gradient in found.values()):
            break
    return found


@contextmanager
def reentrant_checkpoints_refused(advice: str):
    """Says what torch means where ``torch.autograd.grad`` meets a re-entrant activation checkpoint, and what to do."""
    try:
        yield
    except RuntimeError as error:
        if 'heckpoint' not in str(error):
            raise
        raise DistillationError('gradients cannot be taken through a re-entrant activation checkpoint (with_cp of the '
                                'model). ' + advice) from error


def _scaled_gradients(loss: Tensor, edges: Dict[str, GradientEdge], scale: float) -> Dict[str, Tensor]:
    with reentrant_checkpoints_refused('Give loss_scale a number, and log_gradients=0.'):
        gradients = torch.autograd.grad(loss * scale, list(edges.values()), retain_graph=True, allow_unused=True)
    zero = torch.zeros((), device=loss.device)
    return {address: zero if gradient is None else gradient.float() / scale for address, gradient in zip(edges, gradients)}


def compare_gradients(task: Dict[str, Tensor], distillation: Dict[str, Tensor]) -> Dict[str, GradientComparison]:
    """Norms and inner product at each feature, summed over all ranks. Waits for the device.

    Args:
        task, distillation: gradients by address, as :func:`feature_gradients` returns them.
    """
    totals = torch.stack([torch.stack([task[address].square().sum(), ours.square().sum(), (ours * task[address]).sum()])
                          for address, ours in distillation.items()])
    all_reduce(totals)
    return {address: GradientComparison(*row) for address, row in zip(distillation, totals.tolist())}


class ScaleCalibration(nn.Module):
    """``loss_scale='auto'``: the factor that makes a distiller's gradient as strong as the task loss's.

    The geometric mean of ``||g_task|| / ||g_distillation||``, both taken at all of the distiller's student taps together,
    over the later half of a window of iterations; then frozen. Until then the later half of the window so far is used.
    Its buffers are part of the distiller's state.

    At the start of a training from scratch both gradients change by orders of magnitude within a hundred iterations. So the
    window moves on until the means of its four quarters agree within 15 %.

    Args:
        iterations: the window is the first so many iterations. None: it holds 200 and moves on until the ratio has
            settled, for 2000 at most.
    """

    def __init__(self, iterations: Optional[int] = None):
        super().__init__()
        if iterations is not None:
            check_number('calibration_iters', iterations, above=0, whole=True)
        self.iterations = iterations
        self.limit = iterations or SETTLING_LIMIT
        self.register_buffer('log_scales', torch.zeros(iterations or SETTLING_WINDOW))
        self.register_buffer('counted', torch.zeros((), dtype=torch.long))
        self.register_buffer('frozen', torch.zeros((), dtype=torch.bool))
        self.finished = False
        # The buffers' content on the host, so that asking costs no sync.
        self._window: List[float] = []
        self._counted = self._rejected = 0

    def describe(self) -> str:
        """For how long it goes on, in words."""
        return 'until it settles' if self.iterations is None else f'over {self.iterations} iterations'

    @property
    def scale(self) -> float:
        return math.exp(_mean(self._window[len(self._window) // 2:])) if self._window else 1.0

    @property
    def settled(self) -> bool:
        """Whether the window is full and its quarters agree."""
        length = len(self.log_scales)
        if len(self._window) < length:
            return False
        step = max(1, length // 4)
        means = [_mean(self._window[begin:begin + step]) for begin in range(0, length - step + 1, step)]
        return max(means) - min(means) < SETTLED

    def observe(self, comparison: GradientComparison, name: str) -> None:
        """Takes one iteration into account, unless a gradient was 0 or not finite in it.

        Raises:
            DistillationError: when that has been so in as many iterations as the calibration takes.
        """
        if comparison.ratio is None:
            self._rejected += 1
            if self._rejected >= self.limit:
                raise DistillationError(
                    f"model.distillers.{name}.loss_scale: 'auto' found no scale: in {self._rejected} iterations a gradient "
                    f'at its taps was 0 or not finite (squared norms in the last: task loss {comparison.task:g}, distiller '
                    f'{comparison.distillation:g}). Accepted: a number, or taps that both losses reach.')
            return
        length = len(self.log_scales)
        # Rounded as the buffer is: a resumed run has the same numbers.
        rounded = float(torch.tensor(-math.log(comparison.ratio), dtype=torch.float32))
        self._window = [*self._window, rounded][-length:]
        self._counted += 1
        self.finished = self._counted >= self.limit or (self.iterations is None and self.settled)
        self.log_scales[:len(self._window)] = torch.tensor(self._window, device=self.log_scales.device)
        self.counted.fill_(self._counted)
        self.frozen.fill_(self.finished)
        if self.finished:
            self._report(name)

    def _report(self, name: str) -> None:
        low, high = math.exp(min(self._window)), math.exp(max(self._window))
        print_log(f'model.distillers.{name}: loss_scale frozen at {self.scale:.6g} after {self._counted} iterations '
                  f"({low:.3g} to {high:.3g}): with it the gradient at the taps is loss_weight times the task's", 'current')
        if not self.settled or high > SUSPICIOUS_SPREAD * low:
            print_log(f'model.distillers.{name}: the scale had not settled then. Look at log_gradients, and at the task '
                      'loss (has it vanished?); give another calibration_iters or a number.', 'current',
                      level=logging.WARNING)

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._counted, self.finished = int(self.counted), bool(self.frozen)
        self._window = self.log_scales[:min(self._counted, len(self.log_scales))].tolist()


def _mean(values: List[float]) -> float:
    return math.fsum(values) / len(values)
