"""What each distiller weighs in a step: by its own schedule, or by a process that weighs the losses of others."""
from typing import Any, Dict, Mapping, Tuple

from torch import Tensor

from ..distiller import Batch, Distiller, Features, SeparateLosses, WeighsOthers
from ..utils.errors import DistillationError, unknown_name


class Weighing:
    """The weights of some distillers, in one place.

    Args:
        distillers: by name, all of a model.

    Raises:
        DistillationError: for a distiller that is weighed by two others, or that there is not.
    """

    def __init__(self, distillers: Mapping[str, Distiller]):
        self._distillers = dict(distillers)
        self._by: Dict[str, Tuple[Distiller, Any]] = {}
        for name, distiller in self._distillers.items():
            for other in distiller.weighed if isinstance(distiller, WeighsOthers) else ():
                path = f'{distiller.path}.members'
                if other not in self._distillers or other == name:
                    others = [each for each in self._distillers if each != name]
                    raise unknown_name(path, other, others, problem='is no other distiller of the model')
                if other in self._by:
                    raise DistillationError(f'has {other!r}, which {self._by[other][0].path} has too', path=path,
                                            given=other, accepted='each distiller in one process')
                self._by[other] = (distiller, distiller)

    def meet(self) -> None:
        """Lets those that weigh others get to know them; all have found their taps."""
        for name, distiller in self._distillers.items():
            if isinstance(distiller, WeighsOthers):
                distiller.meet({other: each for other, each in self._distillers.items() if other != name})

    def weight_at(self, name: str, iteration: int) -> float:
        """The weight of a distiller at an iteration; of one that is weighed the largest factor of its losses.

        At 0 it does not act. Says to the distiller which of its losses are left out.
        """
        distiller = self._distillers[name]
        if name not in self._by:
            return distiller.weight_at(iteration)
        factors = self._weigher(name).factors(name, iteration)
        if isinstance(distiller, SeparateLosses):
            distiller.left_out = frozenset() if None in factors else frozenset(distiller.loss_taps()) - set(factors)
        return max(factors.values(), default=0.0)

    def fraction(self, name: str) -> float:
        """The part of a batch that a distiller looks at."""
        return (self._by[name][0] if name in self._by else self._distillers[name]).options.fraction

    def losses(self, name: str, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        """The losses of a distiller, without a factor."""
        found: Dict[str, Tensor] = self._distillers[name](student, teacher, batch) if name not in self._by else (
            self._weigher(name).losses_of(name, student, teacher, batch))
        return found

    def weighted(self, name: str, losses: Mapping[str, Tensor], weight: float, iteration: int) -> Dict[str, Tensor]:
        """The losses with their factors.

        Args:
            name: the distiller.
            losses: its losses.
            weight: what :meth:`weight_at` returned.
            iteration: the global iteration.
        """
        if name not in self._by:
            factor = weight * self._distillers[name].strength.scale
            return {key: value * factor for key, value in losses.items()}
        factors = self._weigher(name).factors(name, iteration)
        return {key: value * factors[key if key in factors else None] for key, value in losses.items()}

    def is_weighed(self, name: str) -> bool:
        """Whether another distiller weighs its losses."""
        return name in self._by

    def _weigher(self, name: str) -> WeighsOthers:
        weigher: WeighsOthers = self._by[name][1]
        return weigher
