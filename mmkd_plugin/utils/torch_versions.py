"""What differs between the versions of torch that the package runs with, 2.1 to the newest: nothing else asks for one."""
from contextlib import AbstractContextManager
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

try:
    from torch.autograd.graph import get_gradient_edge
except ImportError:  # before torch 2.2
    get_gradient_edge = None  # type: ignore[assignment]
try:
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError:  # before torch 2.3
    sdpa_kernel = None  # type: ignore[assignment]

OLDEST = (2, 1)
"""The oldest version that the package runs with."""
LATER_DTYPES: Tuple[torch.dtype, ...] = tuple(
    getattr(torch, name) for name in ('uint16', 'uint32', 'uint64') if hasattr(torch, name))
"""Types of numbers that torch has since 2.3; an older one has no file with them, and refuses one."""

Edge = Any
"""Where a tensor stands in the autograd graph, whatever becomes of it later: torch's ``GradientEdge``, since 2.2."""


class OlderEdge(NamedTuple):
    """An edge before torch 2.2.

    Attributes:
        node: the function that the tensor came from.
        number: which of its outputs it is.
    """
    node: Any
    number: int


def gradient_edge(tensor: Tensor) -> Edge:
    """Where a tensor that requires a gradient stands in the graph now."""
    if get_gradient_edge is not None:
        return get_gradient_edge(tensor)
    if tensor.grad_fn is not None:
        return OlderEdge(tensor.grad_fn, tensor.output_nr)
    return OlderEdge(*tensor.view_as(tensor).grad_fn.next_functions[0])


def gradients_at(loss: Tensor, edges: Sequence[Edge]) -> Sequence[Optional[Tensor]]:
    """The gradient of ``loss`` at each edge, None where it does not depend on it; the graph is kept."""
    if any(isinstance(edge, OlderEdge) for edge in edges):
        return _gradients_by_hooks(loss, edges)
    return torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)


def _gradients_by_hooks(loss: Tensor, edges: Sequence[OlderEdge]) -> List[Optional[Tensor]]:
    """What arrives at the nodes on the way to leaves before them: torch 2.1 takes gradients at tensors, not at nodes."""
    found: List[Optional[Tensor]] = [None] * len(edges)

    def keeper(place: int, number: int) -> Callable[[Sequence[Tensor]], None]:
        def keep(gradients: Sequence[Tensor]) -> None:
            found[place] = gradients[number]

        return keep

    handles = [edge.node.register_prehook(keeper(place, edge.number)) for place, edge in enumerate(edges)]
    try:
        leaves = torch.autograd.grad(loss, [_leaf_before(edge.node) for edge in edges], retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    # The node of a leaf itself does not run.
    return [leaf if hasattr(edge.node, 'variable') else gradient for edge, gradient, leaf in zip(edges, found, leaves)]


def _leaf_before(node: Any) -> Tensor:
    """The nearest leaf that the output of a node depends on."""
    waiting, seen = [node], {node}
    for node in waiting:
        if hasattr(node, 'variable'):
            return node.variable  # type: ignore[no-any-return]
        for earlier, _ in node.next_functions:
            if earlier is not None and earlier not in seen:
                seen.add(earlier)
                waiting.append(earlier)
    raise RuntimeError('a tensor that requires a gradient depends on no leaf')


def plain_attention() -> AbstractContextManager[Any]:
    """Inside, attention is computed by plain operations: the fused kernels have no forward-mode and no second derivative."""
    if sdpa_kernel is not None:
        return sdpa_kernel(SDPBackend.MATH)
    return torch.backends.cuda.sdp_kernel(enable_flash=False, enable_math=True, enable_mem_efficient=False)


def autocast_dtype(device: str) -> Optional[torch.dtype]:
    """In which type autocast computes at present on a kind of device; None where it is off."""
    try:
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    except (TypeError, AttributeError):  # before torch 2.4
        if device == 'cpu':
            return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def safe_globals() -> Sequence[Any]:
    """What has been registered with ``torch.serialization.add_safe_globals``; before torch 2.4 there is no such list.

    Entries are classes and functions, or (one of them, its name in files).
    """
    registered = getattr(torch.serialization, 'get_safe_globals', None)
    return registered() if registered is not None else ()


def weights_only_is_safe() -> bool:
    """Whether ``torch.load(weights_only=True)`` keeps its promise: before torch 2.6 a crafted file gets code executed."""
    return release() >= (2, 6)


def release() -> Tuple[int, int]:
    """The first two numbers of torch's version."""
    major, minor = torch.__version__.split('.')[:2]
    return int(major), int(minor)
