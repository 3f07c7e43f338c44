"""How strong a distiller pulls at the tapped features, compared with the task loss."""
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Dict, Iterator, Optional

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from ..utils.errors import DistillationError
from ..utils.torch_versions import Edge, gradients_at

# With float16 on the way, gradients of an unscaled loss vanish, those of a scaled one may overflow. Tried in this order; the
# scale cancels in what is returned.
HALF_SCALES = (2.0 ** 16, 2.0 ** 8, 1.0)


@dataclass(frozen=True)
class GradientComparison:
    """Two gradients at one or several features.

    Attributes:
        task: squared norm of the task loss's gradient.
        distillation: squared norm of the distiller's gradient, at weight and scale 1.
        inner: inner product of the two gradients.
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


def feature_gradients(loss: Tensor, edges: Dict[str, Edge], half: bool = False) -> Dict[str, Tensor]:
    """Gradient of ``loss`` at each feature, in float32, the graph kept; a scalar 0 where it does not depend on the feature.

    Args:
        loss: a scalar.
        edges: where each feature stands in the graph, by address.
        half: whether operations between the features and the loss may be in float16.

    Raises:
        DistillationError: if a re-entrant activation checkpoint, which cannot do this, lies on the way.
    """
    for scale in HALF_SCALES if half else (1.0,):
        found = _scaled_gradients(loss, edges, scale)
        if scale == 1 or all(bool(gradient.isfinite().all()) for gradient in found.values()):
            break
    return found


@contextmanager
def reentrant_checkpoints_refused(advice: str) -> Iterator[None]:
    """Says what torch means where ``torch.autograd.grad`` meets a re-entrant activation checkpoint, and what to do."""
    try:
        yield
    except RuntimeError as error:
        if 'heckpoint' not in str(error):
            raise
        raise DistillationError('gradients cannot be taken through a re-entrant activation checkpoint (with_cp of the '
                                'model)', hint=advice) from error


def _scaled_gradients(loss: Tensor, edges: Dict[str, Edge], scale: float) -> Dict[str, Tensor]:
    with reentrant_checkpoints_refused('Give loss_scale a number, and log_gradients=0.'):
        gradients = gradients_at(loss * scale, list(edges.values()))
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
