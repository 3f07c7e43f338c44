"""Parameters that an iteration leaves alone, under DDP, which wants a gradient for every parameter in every iteration.

They get zeros, and before the optimiser's step these zeros are taken away again: weight decay and momentum leave alone what
no loss has reached, as they do without DDP. Without DDP nothing at all is added, so that an iteration in which no distiller
acts is the plain student's, bit for bit.
"""
from typing import Dict, Iterable, List

from mmengine.dist import is_distributed
from torch import Tensor, nn


class IdleParameters:
    """Those that the last forward did not reach."""

    def __init__(self) -> None:
        self._idle: List[nn.Parameter] = []

    def begin(self) -> None:
        """A new forward."""
        self._idle = []

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
        known = set(reached)
        self._idle += [parameter for parameter in parameters if parameter not in known]
        zeros = [parameter.sum() for parameter in parameters]
        return {name: sum(zeros[1:], zeros[0]) * 0}

    def forget_gradients(self) -> None:
        """To be called before a step of the optimiser."""
        for parameter in self._idle:
            parameter.grad = None
