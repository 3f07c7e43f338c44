"""Which images of a batch the distillers look at: with ``fraction``, some of them, other ones in every iteration."""
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import torch
from mmengine.dist import get_rank
from torch import Tensor

from ..distiller import Batch, Features, TapNames
from ..taps.shapes import images_of
from ..utils.errors import DistillationError, under


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

    def views(self, student: Features, teacher: Features, needed: Callable[[str], TapNames]) -> Dict[str, View]:
        """What each distiller looks at, by its name.

        Args:
            student: the student's features of the whole batch.
            teacher: the teacher's of :attr:`largest`.
            needed: says which of them a distiller needs; images are picked of these alone.

        Raises:
            DistillationError: for a feature that has not one row for each image (but one for each window, or region).
        """
        total = len(self._whole.inputs)
        found: Dict[str, View] = {}
        ours: Features = {}
        theirs: Features = {}
        for name, count in sorted(self._counts.items(), key=lambda item: -item[1]):  # smaller ones are parts of larger ones
            if count == total:
                found[name] = View(student, teacher, self._whole)
                continue
            names = needed(name)
            with under(f'model.distillers.{name}'):
                found[name] = View(self._pick(ours, student, names.student, count, total),
                                   self._pick(theirs, teacher, names.teacher, count, len(self.largest.inputs)),
                                   self._batches[count])
        return found

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

    def _pick(self, picked: Features, features: Features, names: Sequence[str], count: int, rows: int) -> Features:
        """The first ``count`` images, in the drawn order, of the named features, which have ``rows`` images.

        ``picked`` has what a larger portion has picked, and gets this.
        """
        assert self._index is not None, 'there is one where a portion is not the whole'
        for name in names:
            if name not in picked:
                if len(features[name]) != rows:
                    raise DistillationError(f'needs one row for each image; {name!r} has {len(features[name])} for {rows} '
                                            'images', path='fraction', accepted='1, or other taps')
                is_whole = rows == len(self._whole.inputs)
                picked[name] = images_of(features[name], self._index[:count]) if is_whole else features[name]
            picked[name] = picked[name][:count]
        return {name: picked[name] for name in names}
