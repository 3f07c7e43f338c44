"""How pathway losses change along the gradient of the validation loss: d_p, exactly or by finite differences.

``losses`` is a function of named tensors (the weights theta) that returns the P pathway losses; ``point`` is theta_t, whole,
and ``direction`` says which way each moved tensor goes. d is the directional derivative, not divided by its length.
"""
import re
import traceback
from typing import Callable, Dict, List, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..utils.torch_versions import plain_attention

Named = Dict[str, Tensor]
Losses = Callable[[Named], Sequence[Tensor]]


def tangents(function: Losses, point: Named, direction: Named) -> List[Tensor]:
    """How each output of ``function`` changes along the direction, by one forward-mode pass: J v, in the output's shape.

    Raises:
        NotImplementedError: torch's own, where an operation has no forward-mode derivative; see :func:`missing_operation`.
    """
    with torch.no_grad(), forward_ad.dual_level(), plain_attention():
        duals = {name: forward_ad.make_dual(value, direction[name].to(value)) if name in direction else value
                 for name, value in point.items()}
        parts = [forward_ad.unpack_dual(output) for output in function(duals)]
        # An output that does not depend on what moves has no tangent.
        return [torch.zeros_like(part.primal) if part.tangent is None else part.tangent.clone() for part in parts]


def exact_derivatives(losses: Losses, point: Named, direction: Named) -> Tensor:
    """d_p (P,) by one forward-mode pass; see :func:`tangents`."""
    return torch.stack(tangents(losses, point, direction))


def finite_difference_derivatives(losses: Losses, point: Named, direction: Named, radius: float = 0.01) -> Tensor:
    """d_p (P,) from two passes at theta_t +- eps * direction, eps = radius / ||direction||_2 (equation 5; DARTS)."""
    eps: Tensor = radius / global_norm(direction)

    def at(step: Tensor) -> Tensor:
        moved = {name: value + step * direction[name].to(value) if name in direction else value
                 for name, value in point.items()}
        return torch.stack(list(losses(moved)))

    with torch.no_grad():
        return (at(eps) - at(-eps)) / (2 * eps)


def global_norm(tensors: Named) -> Tensor:
    """||.||_2 over all elements of all tensors."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors.values()]))
    return norm


def missing_operation(error: NotImplementedError) -> str:
    """The name of the operation that has no forward-mode derivative: torch's, or where a custom function is called."""
    named = re.search(r'forward AD with (\S+) that', str(error))
    if named:
        return named[1]
    frames = [(frame.f_locals.get('self'), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    modules = [f'a function that {type(owner).__name__} calls (line {line})' for owner, line in frames
               if isinstance(owner, nn.Module)]
    return modules[-1] if modules else str(error).splitlines()[0]
