"""The gradient of every pathway loss at the student's feature it starts from, caught in the training step's own backward.

Each pathway has a branch of its own, so autograd computes these gradients one by one on its way to the student. Kept, they
make the directional derivative of a pathway loss an inner product, ``d_p = <dl_p / dF_j, J_j v>``, where J_j v is the
tangent of the student's feature. A search step then runs no transform at all.
"""
from types import MappingProxyType
from typing import Dict, Iterable, Mapping, Optional, Sequence, Set

import torch
from torch import Tensor

from .forward_tape import ForwardTape


class PathwayGradients:
    """Watches one training step; the last backward through it counts.

    Args:
        features: the student's features that the pathways start from.
        tape: what the student's forward to there computed, if it was noted.

    Attributes:
        reached: the identities of the weights that the features depend on; no other moves a pathway loss along v.
    """

    def __init__(self, features: Iterable[Tensor], tape: Optional[ForwardTape] = None) -> None:
        self.reached, self.tape = weights_of(features), tape
        self._at_input: Dict[int, Tensor] = {}
        self._at_loss: Dict[int, Tensor] = {}
        self._at_weights: Dict[int, Dict[int, Tensor]] = {}

    def watch_input(self, index: int, feature: Tensor) -> Tensor:
        """The feature (B, C, h, w) as a pathway is to use it: the same values, at a place of its own in the graph."""
        branch = feature.view_as(feature)
        branch.register_hook(lambda gradient: self._at_input.__setitem__(index, gradient))
        return branch

    def watch_loss(self, index: int, loss: Tensor) -> Tensor:
        """The loss of a pathway; what arrives here is its factor in the backward (weight, loss scale, accumulation)."""
        loss.register_hook(lambda gradient: self._at_loss.__setitem__(index, gradient))
        return loss

    def watch_weights(self, index: int, weights: Iterable[Tensor]) -> None:
        """Keeps the gradients of a pathway's own weights, too: for a direction in which they move."""
        found = self._at_weights.setdefault(index, {})

        def watch(weight: Tensor) -> None:
            def caught(gradient: Tensor) -> None:
                handle.remove()
                found[id(weight)] = gradient
            handle = weight.register_hook(caught)

        for weight in weights:
            if weight.requires_grad:
                watch(weight)

    def derivatives(self, tangents: Sequence[Tensor], weights: Mapping[int, Tensor] = MappingProxyType({})
                    ) -> Optional[Tensor]:
        """d_p (P,) in the direction in which the feature of pathway p moves by ``tangents[p]``, (B, C, h, w).

        Args:
            tangents: by pathway, how its feature moves.
            weights: by identity, how the weights move of which the gradients were kept.

        None where a pathway did not take part in the backward, or with a factor of 0: its gradient is not known then.
        """
        if not all(index in self._at_input and index in self._at_loss for index in range(len(tangents))):
            return None
        factors = torch.stack([self._at_loss[index] for index in range(len(tangents))])
        if not bool(factors.all()):
            return None
        products = [(self._at_input[index] * tangent).sum() for index, tangent in enumerate(tangents)]
        for index, kept in self._at_weights.items():
            for weight, gradient in kept.items():
                if weight in weights:
                    products[index] = products[index] + (gradient * weights[weight]).sum()
        return torch.stack(products) / factors


def weights_of(tensors: Iterable[Tensor]) -> Set[int]:
    """The identities of the weights that some tensors were computed from, as autograd has noted it."""
    waiting = [tensor.grad_fn for tensor in tensors]
    seen, found = set(waiting), set()
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if hasattr(node, 'variable'):
            found.add(id(node.variable))
        for before, _ in node.next_functions:
            if before not in seen:
                seen.add(before)
                waiting.append(before)
    return found
