"""The importance of pathways over a training, and the weights it comes to: searched, replayed, or fixed."""
from typing import Any, Dict, Iterable, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..utils.errors import DistillationError
from ..utils.progress import run_length
from .process import Process
from .weights import NORMALISATIONS, live_pathways


class Importance(nn.Module):
    """From an iteration to the weights of P pathways.

    Args:
        mode: the distiller's mode.
        pathways: P, how many pathways (and other members) there are.
        values: the importance of each in mode ``'constant'``.
        length: iterations over which a process is stretched; None: the run's.

    Attributes:
        value: (P,), the importance that a search moves; a buffer, in mode ``'search'`` only.
        process: the process that is replayed, once it has been read.
        path: where the distiller stands in the config, for the log.
        normalisation, bias, tau: as the config or the file has them; see :mod:`~mmkd_plugin.distpro.weights`.
    """

    value: Tensor
    _memo: Tuple[Optional[Tuple[int, ...]], Dict[int, float]]

    def __init__(self, mode: str, pathways: int, values: Optional[Sequence[float]] = None, length: Optional[int] = None):
        super().__init__()
        self.mode, self.pathways, self.length, self.path = mode, pathways, length, 'DistPro'
        self._as_configured, self._begin = mode, 0
        if mode == 'search':
            self.register_buffer('value', torch.ones(pathways))
        self._constant = torch.ones(pathways) if values is None else torch.tensor(values, dtype=torch.float64)
        self.process: Optional[Process] = None
        self.settle('biased_softmax', 1.0, 0.5)
        self._live = pathways

    def settle(self, normalisation: str, bias: float, tau: Optional[float]) -> None:
        """Says how importance becomes weights."""
        self.normalisation, self.bias, self.tau = normalisation, bias, tau
        self.forget()  # the weights of the last iteration that was asked for are kept

    def replay(self, process: Process, begin: int) -> None:
        """Ends a search: from iteration ``begin`` on, a process is replayed, stretched over the rest of the run.

        Args:
            process: what the search has found.
            begin: the first iteration.
        """
        self.mode, self.process, self._begin = 'process', process, begin
        self.forget()

    def describe(self) -> str:
        """Where the importance comes from and how it becomes weights, in a few words."""
        mode = self._as_configured
        source = f'{mode} {self.process.digest()}' if self.process is not None and mode != 'search' else mode
        return f'{source}, {self.normalisation}'

    def at(self, iteration: int) -> Tensor:
        """a (P,) at a global iteration, on the host unless it is being searched."""
        if self.mode == 'search':
            return self.value
        if self.process is not None:
            if self.mode == 'final':
                return self.process.importance[-1]
            return self.process.at(iteration - self._begin, self._steps() - self._begin)
        return self._constant

    def weights(self, iteration: int) -> Dict[int, float]:
        """Weight of every pathway that is not pruned at a global iteration, by its number; numbers of the host."""
        # Without a process they change only when the importance is moved, which forgets them.
        key = (iteration, self._steps()) if self.mode == 'process' else ()
        if self._memo[0] != key:
            self._memo = (key, self._weights(iteration))
            live = len(self._memo[1])
            if self.mode != 'search' and live != self._live:
                self._live = live
                print_log(f'{self.path}: {live} of {self.pathways} pathways from iteration {iteration} on; the others are '
                          'pruned', 'current')
        return self._memo[1]

    def _weights(self, iteration: int) -> Dict[int, float]:
        if self.mode == 'equal':
            return dict.fromkeys(range(self.pathways), 1 / self.pathways)
        importance = self.at(iteration)
        # The normaliser sums over all pathways, the pruned ones too: the others' weights do not jump.
        weights = NORMALISATIONS[self.normalisation](importance, self.bias).tolist()
        return {index: weights[index] for index in live_pathways(importance, None if self.mode == 'search' else self.tau)}

    def is_live(self, iterations: Iterable[int], steps: int) -> bool:
        """Whether a pathway is not pruned in one of some iterations, of a run of ``steps``."""
        if self.mode in ('equal', 'search'):
            return True
        if self.mode != 'process' or self.process is None:
            return bool(live_pathways(self.at(0), self.tau))
        # What lies between records is not above both.
        if not any(live_pathways(record, self.tau) for record in self.process.importance.amax(0, keepdim=True)):
            return False
        stretched = self.length or steps
        return any(live_pathways(self.process.at(iteration, stretched), self.tau) for iteration in iterations)

    def largest_sum(self) -> float:
        """The largest sum of weights, pruned ones among them, that the importance comes to."""
        if self.mode == 'equal':
            return 1.0
        records = self.process.importance if self.mode == 'process' and self.process is not None else self.at(0)[None]
        return max(float(NORMALISATIONS[self.normalisation](record, self.bias).sum()) for record in records)

    def forget(self) -> None:
        """To be called when ``value`` has been moved."""
        self._memo = (None, {})

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.forget()

    def _steps(self) -> int:
        steps = self.length or run_length()
        if steps is None:
            raise DistillationError('is missing: outside a Runner the length of the run is not known', path='length',
                                    accepted='a whole number of iterations > 0')
        return steps
