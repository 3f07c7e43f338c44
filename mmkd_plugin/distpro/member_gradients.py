"""The gradient of every member's loss at the student's features it reads, caught in the training step's own backward.

Each member has branches of its own, so autograd computes these gradients one by one on its way to the student. Kept, they
make the directional derivative of a loss an inner product, ``d_p = sum_j <dl_p / dF_j, J_j v>``, where J_j v is the tangent
of the student's feature j. A search step then runs no transform, no adapter and no loss at all.
"""
from types import MappingProxyType
from typing import Dict, Iterable, Mapping, Optional, Set

import torch
from torch import Tensor

from .forward_tape import ForwardTape


class MemberGradients:
    """Watches one training step; the last backward through it counts.

    Args:
        features: the student's features that the members read.
        tape: what the student's forward to there computed, if it was noted.

    Attributes:
        reached: the identities of the weights that the features depend on; no other moves a loss along v.
    """

    def __init__(self, features: Iterable[Tensor], tape: Optional[ForwardTape] = None) -> None:
        self.reached, self.tape = weights_of(features), tape
        self._at_input: Dict[int, Dict[str, Tensor]] = {}
        self._at_loss: Dict[int, Tensor] = {}
        self._at_weights: Dict[int, Dict[int, Tensor]] = {}

    def watch_input(self, index: int, tap: str, feature: Tensor) -> Tensor:
        """A feature as a member is to use it: the same values, at a place of its own in the graph.

        Args:
            index: the number of the member.
            tap: the feature's address.
            feature: (B, C, h, w) or (B, C).
        """
        branch = feature.view_as(feature)
        found = self._at_input.setdefault(index, {})
        branch.register_hook(lambda gradient: found.__setitem__(tap, gradient))
        return branch

    def watch_loss(self, index: int, losses: Iterable[Tensor]) -> None:
        """The losses of a member, which all get one factor: what arrives at one (weight, loss scale, accumulation)."""
        for loss in losses:
            if loss.requires_grad:
                loss.register_hook(lambda gradient: self._at_loss.__setitem__(index, gradient))
                return

    def watch_weights(self, index: int, weights: Iterable[Tensor]) -> None:
        """Keeps the gradients of a member's own weights, too: for a direction in which they move."""
        found = self._at_weights.setdefault(index, {})

        def watch(weight: Tensor) -> None:
            def caught(gradient: Tensor) -> None:
                handle.remove()
                found[id(weight)] = gradient
            handle = weight.register_hook(caught)

        for weight in weights:
            if weight.requires_grad:
                watch(weight)

    def derivatives(self, members: int, tangents: Mapping[str, Tensor],
                    weights: Mapping[int, Tensor] = MappingProxyType({})) -> Optional[Tensor]:
        """d_p (P,) in the direction in which the student's features move by ``tangents``.

        Args:
            members: P.
            tangents: by tap, how the feature moves.
            weights: by identity, how the weights move of which the gradients were kept.

        None where a member did not take part in the backward, or with a factor of 0: its gradient is not known then.
        """
        if not all(index in self._at_loss for index in range(members)):
            return None
        factors = torch.stack([self._at_loss[index].reshape(()) for index in range(members)])
        if not bool(factors.all()):
            return None
        products = []
        for index in range(members):
            product = factors.new_zeros(())
            for tap, gradient in self._at_input.get(index, {}).items():
                product = product + (gradient * tangents[tap]).sum()
            for weight, gradient in self._at_weights.get(index, {}).items():
                if weight in weights:
                    product = product + (gradient * weights[weight]).sum()
            products.append(product)
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
