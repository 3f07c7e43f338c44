"""Keeping what was computed before an injection apart from what comes after it.

Whatever was computed before the injection and is used after it (skip connections, feature pyramids) would join the two paths
again, so it is cut: later operations see it detached, or see a stand-in. Which tensors those are is told by autograd's own
sequence numbers, so any model will do.
"""
from typing import Any, Callable, Dict, Iterable, Tuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..utils.errors import DistillationError

Output = Tuple[Tensor, Callable[[], Tensor]]
"""What a module gave, and a function that makes what is seen instead of it."""


class Barrier(TorchFunctionMode):
    """While active, no operation sees a tensor with a gradient history from before the barrier was made.

    Args:
        earlier: makes what an operation sees instead of such a tensor, e.g. ``Tensor.detach``.
        outputs: tensors that something else is seen instead of, each with the function that makes it.

    Attributes:
        cut: whether something earlier was met that is none of ``outputs``.
    """

    def __init__(self, earlier: Callable[[Tensor], Tensor], outputs: Iterable[Output] = ()):
        super().__init__()
        self._earlier = earlier
        self._outputs = list(outputs)
        self._made: Dict[int, Tensor] = {}
        self.cut = False
        # Autograd numbers its nodes as they are made.
        newest = torch.zeros((), requires_grad=True).view(()).grad_fn
        assert newest is not None, 'whoever makes a barrier has gradients enabled'
        self._number = newest._sequence_nr()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*self._later(args), **self._later(kwargs or {}))

    def _later(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            node = value.grad_fn
            return value if node is None or node._sequence_nr() > self._number else self._instead(value)
        if type(value) in (tuple, list):
            return type(value)(self._later(item) for item in value)
        if type(value) is dict:
            return {key: self._later(item) for key, item in value.items()}
        return value

    def _instead(self, value: Tensor) -> Tensor:
        for output, make in self._outputs:
            if value is output:
                if id(output) not in self._made:
                    made = make().to(output.dtype)
                    if made.shape != output.shape:
                        raise DistillationError(f'what stands in for an earlier stage has shape {tuple(made.shape)}, the '
                                                f'stage itself {tuple(output.shape)}')
                    self._made[id(output)] = made
                return self._made[id(output)]
        self.cut = True
        return self._earlier(value)
