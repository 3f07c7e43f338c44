"""One tap: how a feature is read, or replaced, at an address."""
from typing import Any, Callable, List, Optional

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ..utils.errors import DistillationError
from .address import TapAddress, resolve_module

Add = Callable[['Tap', Tensor], Optional[Tensor]]
"""Takes a feature in; returns what the model goes on with, or None for the feature itself."""


class TapError(DistillationError):
    """An error about one tap.

    Attributes:
        address: the tap's address; it tells whoever knows the distillers which of them wants this tap.
        role: ``'student'`` or ``'teacher'``: whose tap it is.
    """

    def __init__(self, tap: 'Tap', problem: str, *, accepted: str = '', hint: str = ''):
        super().__init__(f'{tap} {problem}', accepted=accepted, hint=hint)
        self.address, self.role = tap.address, tap.role


class Tap:
    """One address in one model. Found once, it knows how to record itself.

    Raises:
        DistillationError: for an address that is none, or that the model does not have.
    """

    def __init__(self, model: nn.Module, address: str, role: str):
        parsed = TapAddress.parse(address)
        self.address, self.index, self.port = address, parsed.index, parsed.port
        self.role = role
        self.module = resolve_module(model, parsed.path, role)
        # set by `settle`
        self.activation: Optional[nn.Module] = None
        self.activation_call = 0
        self.channels_last = False
        self.needs_clone = False
        self.norm: Optional[_BatchNorm] = None

    def __str__(self) -> str:
        return f'tap {self.address!r} of the {self.role}'

    def hook(self, add: Add) -> List[RemovableHandle]:
        """Registers what records this tap: calls ``add(tap, feature)``, and goes on with what that returns, if anything.

        Returns the handles.
        """
        if self.port == 'out' or (self.port == 'end' and self.activation is None):
            return [self.module.register_forward_hook(
                lambda module, args, output: self._put(output, add(self, self._select(output))))]
        return self._hook_input(add) if self.port == 'in' else self._hook_activation(add)

    def _hook_input(self, add: Add) -> List[RemovableHandle]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            replacement = add(self, self._select(next(iter((*args, *kwargs.values())))))
            assert replacement is None, 'an input is looked at, never replaced'

        return [self.module.register_forward_pre_hook(enter, with_kwargs=True)]

    def _hook_activation(self, add: Add) -> List[RemovableHandle]:
        assert self.activation is not None
        # mm ResNets use one in-place ReLU for every activation of a block: count its calls inside the tapped module.
        # None: not inside. The activation may be shared with modules outside of the tapped one.
        calls: List[Optional[int]] = [None]

        def enter(module: nn.Module, args: Any) -> None:
            calls[0] = 0

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            calls[0] = None

        def before_activation(module: nn.Module, args: Any) -> Any:
            if calls[0] is None:
                return None
            calls[0] += 1
            if calls[0] != self.activation_call:
                return None
            replacement = add(self, args[0].permute(0, 3, 1, 2) if self.channels_last else args[0])
            if replacement is None:
                return None
            return (replacement.permute(0, 2, 3, 1) if self.channels_last else replacement,)

        return [self.module.register_forward_pre_hook(enter), self.module.register_forward_hook(leave),
                self.activation.register_forward_pre_hook(before_activation)]

    def close(self, feature: Tensor) -> Tensor:
        """What the module returns where ``feature`` is what it has at the tap: it goes through the closing activation."""
        if self.activation is None:
            return feature
        # Past the hooks, which would take this for a call of the model's own.
        closed: Tensor = self.activation.forward(feature)
        return closed

    def _select(self, output: Any) -> Tensor:
        if self.index is not None:
            if not isinstance(output, (list, tuple)):
                raise TapError(self, f'has index [{self.index}], but the output is one {type(output).__name__}',
                               hint='Leave the index out.')
            if not -len(output) <= self.index < len(output):
                raise TapError(self, f'has index {self.index}, which is out of range: the output has {len(output)} items',
                               accepted=f'0 to {len(output) - 1}')
            output = output[self.index]
        elif isinstance(output, (list, tuple)):
            tensors = [number for number, item in enumerate(output) if isinstance(item, Tensor)]
            if len(tensors) != 1:
                raise TapError(self, f'is a {type(output).__name__} of {len(output)} items', accepted='which of them, e.g. '
                               f'{self.address.split("@")[0]}[{tensors[0] if tensors else 0}]')
            output = output[tensors[0]]
        if not isinstance(output, Tensor):
            raise TapError(self, f'is a {type(output).__name__}, not a tensor', accepted='a module that gives a tensor')
        return output

    def _put(self, output: Any, replacement: Optional[Tensor]) -> Any:
        """``output`` with the tapped feature replaced; None where nothing is."""
        if replacement is None or isinstance(output, Tensor):
            return replacement
        tensors = [number for number, item in enumerate(output) if isinstance(item, Tensor)]
        items = list(output)
        items[tensors[0] if self.index is None else self.index] = replacement
        return tuple(items) if isinstance(output, tuple) else items
