"""Which images of a batch the distillers look at: with ``fraction``, some of them, other ones in every iteration."""
from typing import Dict, List, Mapping, NamedTuple, Optional

import torch
from mmengine.dist import get_rank
from torch import Tensor

from ..distiller import Batch, Features
from ..taps.shapes import images_of
from ..utils.errors import under


def number_of_images(fraction: float, total: int) -> int:
    """How many of ``total`` images a fraction is: rounded (a half up), one at least."""
    return min(total, max(1, int(fraction * total + 0.5)))


def drawn_order(total: int, iteration: int, rank: int) -> List[int]:
    """The numbers 0 to ``total - 1`` in an order that is a function of the arguments alone.

    The generator is its own, so that the run's draw what they would without it, and a resumed run has the same order.
    """
    generator = torch.Generator().manual_seed(hash((total, iteration, rank)) % 2 ** 63)
    order: List[int] = torch.randperm(total, generator=generator).tolist()
    return order


class View(NamedTuple):
    """What one distiller looks at."""
    student: Features
    teacher: Features
    batch: Batch


class Portions:
    """The images that each distiller looks at: as many as its fraction says, from the beginning of one drawn order.

    So a smaller portion is part of every larger one, and the teacher runs once, on the largest. A distiller with
    ``fraction=1`` looks at the batch as it is; so does the teacher then.

    Args:
        batch: the whole batch.
        fractions: by name, the fraction of each distiller that acts.

    Attributes:
        largest: what the teacher sees.

    Raises:
        DistillationError: for data samples that cannot be divided.
    """

    def __init__(self, batch: Batch, fractions: Mapping[str, float]):
        total = len(batch.inputs)
        self._whole = batch
        self._counts = {name: number_of_images(fraction, total) for name, fraction in fractions.items()}
        self._index: Optional[Tensor] = None
        order: List[int] = []
        if any(count < total for count in self._counts.values()):
            order = drawn_order(total, batch.iteration, get_rank())
            # Made on the host and sent after what is queued there: the device is not waited for.
            self._index = torch.tensor(order).to(batch.inputs.device, non_blocking=True)
        self._batches = {total: batch}
        for name, count in self._counts.items():
            if count not in self._batches and self._index is not None:
                with under(f'model.distillers.{name}'):
                    self._batches[count] = batch.part(order[:count], self._index[:count])
        self.largest = self._batches[max(self._counts.values())]

    def views(self, student: Features, teacher: Features) -> Dict[str, View]:
        """What each distiller looks at, by its name.

        Args:
            student: the student's features of the whole batch.
            teacher: the teacher's of :attr:`largest`.
        """
        found: Dict[int, View] = {}
        for count in sorted(set(self._counts.values()), reverse=True):
            student, teacher = ({address: self._first(count, feature) for address, feature in features.items()}
                                for features in (student, teacher))
            found[count] = View(student, teacher, self._batches[count])
        return {name: found[count] for name, count in self._counts.items()}

    def comparable(self, name: str, task: Features, distillation: Features) -> List[Features]:
        """Two gradients at the features of the whole batch, as far as they can be compared: at the images looked at.

        A loss that is a mean over n of B images pulls B / n times as hard at each as it would at all of them: that is taken
        back. So the ratio of the two is that of ``fraction=1``, but for the choice of the images.

        Args:
            name: a distiller.
            task, distillation: gradients by address; one is a scalar 0 where the loss does not depend on the feature.
        """
        total, count = len(self._whole.inputs), self._counts[name]
        if count == total or self._index is None:
            return [task, distillation]
        index = self._index[:count]
        task, distillation = ({address: images_of(gradient, index) if gradient.dim() else gradient
                               for address, gradient in gradients.items()} for gradients in (task, distillation))
        return [task, {address: gradient * (count / total) for address, gradient in distillation.items()}]

    def _first(self, count: int, feature: Tensor) -> Tensor:
        """The rows of a portion, of a tensor with those of the whole batch or of a portion that is as large or larger."""
        if len(feature) == count:
            return feature
        if len(feature) < len(self._whole.inputs):
            return feature[:count]
        assert self._index is not None, 'there is one where a portion is not the whole'
        return images_of(feature, self._index[:count])
