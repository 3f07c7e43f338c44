"""Parameters that an iteration leaves alone, under DDP, which wants a gradient for every parameter in every iteration.

They get zeros, and before the optimiser's step these zeros are taken away again: weight decay and momentum leave alone what
no loss has reached, as they do without DDP (where gradients are accumulated: in no iteration since the last step). Without
DDP nothing at all is added, so that an iteration in which no distiller acts is the plain student's, bit for bit.
"""
from contextlib import contextmanager
from typing import Dict, Iterable, Iterator, Optional, Set

from mmengine.dist import is_distributed
from torch import Tensor, nn


class IdleParameters:
    """Those that no forward since the last step of the optimiser has reached."""

    def __init__(self) -> None:
        self._before: Optional[Set[nn.Parameter]] = None
        # None after a step: whatever the next forward does not reach is idle. In a run that begins, which may be resumed
        # with gradients that wait for their step, only what has none.
        self._idle: Optional[Set[nn.Parameter]] = set()

    @property
    def parameters(self) -> Set[nn.Parameter]:
        """The parameters whose gradients are these zeros at present."""
        return set(self._idle or ())

    def begin(self) -> None:
        """A new forward."""
        self._before, self._idle = self._idle, set()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """For forwards whose gradients go nowhere: they do not count."""
        before = self._before, self._idle
        try:
            yield
        finally:
            self._before, self._idle = before

    def add(self, name: str, parameters: Iterable[nn.Parameter], reached: Iterable[nn.Parameter] = ()) -> Dict[str, Tensor]:
        """Zero losses, so that DDP sees a gradient for each of the parameters.

        Args:
            name: what the loss is called.
            parameters: the parameters that no loss of this forward reaches.
            reached: the parameters that another forward of this iteration reaches: their gradients are not taken away.

        Returns:
            The loss by its name; nothing without DDP.
        """
        parameters = list(parameters)
        if not parameters or not is_distributed():
            return {}
        assert self._idle is not None, 'begin() comes first'
        self._idle.update(parameter for parameter in set(parameters).difference(reached) if self._was_idle(parameter))
        zeros = [parameter.sum() for parameter in parameters]
        return {name: sum(zeros[1:], zeros[0]) * 0}

    def forget_gradients(self) -> None:
        """To be called before a step of the optimiser."""
        for parameter in self.parameters:
            parameter.grad = None
        self._idle = None

    def _was_idle(self, parameter: nn.Parameter) -> bool:
        # Without a gradient there has been none since, e.g. because a step with overflown gradients was left out.
        return self._before is None or parameter in self._before or parameter.grad is None
