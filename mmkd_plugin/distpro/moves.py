"""How the importance moves by the hypergradients of a search: Adam, by the mean of a window, resting at first."""
from typing import Any, Dict, Mapping, Sequence

import torch
from torch import Tensor

from ..utils.errors import DistillationError, under
from ..utils.optimizer_states import SteadyOptimizerState
from ..utils.records import Shown
from .significance import Evidence

PAPER_LR, PAPER_STEPS = 0.05, 12480
"""The learning rate of the importance in the paper, and the steps of its search: 40 epochs of 312 batches."""
LEAST_WAY = 2.0
"""How far the importance can go at least in a search, however short: less, and all weights stay nearly equal."""
WATCHED = 10
"""Hypergradients whose mean and standard error are taken where the importance moves by each of them."""


def step_size(steps: int) -> float:
    """The learning rate of the importance for a search of so many steps: the paper's as a share of its length.

    In less than some 700 steps it is as much as lets the importance go by 2 in all; it is never more than the paper's.

    Adam moves each member by about the learning rate, whatever the gradient's size. In a search that is shorter than the
    paper's, with as large a step, the first members that noise raises have all the weight before the others are known.
    """
    return min(PAPER_LR, max(PAPER_LR * steps / PAPER_STEPS, LEAST_WAY / steps))


class Moves:
    """Moves an importance against its hypergradients.

    Args:
        value: a, (P,); moved in place.
        lr, betas: learning rate and betas of Adam.
        window: how many hypergradients are averaged for one move.

    Attributes:
        evidence: what the hypergradients have shown.
    """

    def __init__(self, value: Tensor, lr: float, betas: Sequence[float], window: int = 1):
        self.value, self.window = value, window
        self.evidence = Evidence(len(value), window if window > 1 else WATCHED)
        self._optimiser = torch.optim.Adam([value], lr=lr, betas=(betas[0], betas[1]))

    def take(self, gradient: Tensor, rests: bool = False) -> bool:
        """Takes a hypergradient (P,) and moves the importance, if it is time.

        Args:
            gradient: finite.
            rests: whether the importance stays where it is. Adam's estimates of the gradients' size go on.

        Returns:
            Whether the importance moved.
        """
        seen = self.evidence.add(gradient)
        if self.window > 1:
            if seen is None:
                return False
            gradient = seen.mean.to(self.value)
        before = self.value.clone()
        self.value.grad = gradient
        self._optimiser.step()
        self.value.grad = None
        if rests:
            self.value.copy_(before)
        return not rests

    def state(self) -> Dict[str, Any]:
        """For a checkpoint; it does not have the importance."""
        return dict(optimiser=self._optimiser.state_dict(), evidence=self.evidence.state())

    def load(self, state: Mapping[str, Any], taken: int) -> None:
        """Takes back what :meth:`state` returned.

        Args:
            state: that of the same kind of moves.
            taken: how many hypergradients had been taken.

        Raises:
            DistillationError: for what so many hypergradients cannot have left; takes nothing then.
        """
        with under('optimiser'):
            SteadyOptimizerState(self._optimiser).check(state['optimiser'])
        if (taken >= self.window) != bool(state['optimiser']['state']):
            raise DistillationError(path='optimiser.state', given=Shown(state['optimiser']['state']),
                                    accepted=f'what {taken} steps have left')
        with under('evidence'):
            self.evidence.check(state['evidence'], taken)
        self._optimiser.load_state_dict(state['optimiser'])
        self.evidence.load(state['evidence'])
