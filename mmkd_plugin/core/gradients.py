"""How strong a distiller pulls at the tapped features, compared with the task loss; and scaling it by that."""
import logging
import math
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


def _scaled_gradients(loss: Tensor, edges: Dict[str, GradientEdge], scale: float) -> Dict[str, Tensor]:
    try:
        gradients = torch.autograd.grad(loss * scale, list(edges.values()), retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if 'heckpoint' not in str(error):
            raise
        raise DistillationError("gradients at the taps cannot be measured through a re-entrant activation checkpoint (the "
                                "model's with_cp). Give loss_scale a number, and log_gradients=0.") from error
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
    over the later half of the first iterations (the gradients of both change fastest at the very start); then frozen.
    Until then the later half of what has been seen is used. Its buffers are part of the distiller's state.

    Args:
        iterations: how many there are.
    """

    def __init__(self, iterations: int):
        super().__init__()
        check_number('calibration_iters', iterations, above=0, whole=True)
        self.register_buffer('log_scales', torch.zeros(iterations))
        self.register_buffer('counted', torch.zeros((), dtype=torch.long))
        self._observed: List[float] = []  # the buffers' content on the host, so that asking costs no sync
        self._rejected = 0

    @property
    def finished(self) -> bool:
        return len(self._observed) == len(self.log_scales)

    @property
    def scale(self) -> float:
        later = self._observed[len(self._observed) // 2:]
        return math.exp(math.fsum(later) / len(later)) if later else 1.0

    def observe(self, comparison: GradientComparison, name: str) -> None:
        """Takes one iteration into account, unless a gradient was 0 or not finite in it.

        Raises:
            DistillationError: when that has been so in as many iterations as the calibration takes.
        """
        if comparison.ratio is None:
            self._rejected += 1
            if self._rejected >= len(self.log_scales):
                raise DistillationError(
                    f"model.distillers.{name}.loss_scale: 'auto' found no scale: in {self._rejected} iterations a gradient "
                    f'at its taps was 0 or not finite (squared norms in the last: task loss {comparison.task:g}, distiller '
                    f'{comparison.distillation:g}). Accepted: a number, or taps that both losses reach.')
            return
        index = len(self._observed)
        self.log_scales[index] = -math.log(comparison.ratio)
        self.counted.fill_(index + 1)
        self._observed.append(float(self.log_scales[index]))
        if self.finished:
            self._report(name)

    def _report(self, name: str) -> None:
        low, high = math.exp(min(self._observed)), math.exp(max(self._observed))
        print_log(f'model.distillers.{name}: loss_scale frozen at {self.scale:.6g} (in {len(self._observed)} iterations '
                  f"{low:.3g} to {high:.3g}): with it the gradient at the taps is loss_weight times the task's", 'current')
        if high > SUSPICIOUS_SPREAD * low:
            print_log(f'model.distillers.{name}: within its calibration the scale changed by a factor of {high / low:.3g}. '
                      'Look at the task loss (has it vanished?), or give a larger calibration_iters or a number.', 'current',
                      level=logging.WARNING)

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._observed = self.log_scales[:int(self.counted)].tolist()
