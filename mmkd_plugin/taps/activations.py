"""Finding the activation that ends a block: what a ``@preact`` tap stands before."""
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from mmcv.cnn.bricks import Swish
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from .tap import Tap, TapError

# Gates (Sigmoid, HSigmoid, Tanh, Softmax) are not here: they scale a feature, they do not produce one.
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
               nn.Hardswish, nn.Softplus, Swish)


@dataclass(frozen=True)
class FoundActivation:
    """One call of an activation module inside a module.

    Attributes:
        activation: the module.
        call: number of its call inside the tapped module, from 1: residual blocks use one module several times.
        shape: the shape of its input.
        norm: the last batch norm that ran before it, if any.
        channels_last: whether it works on (B, H, W, C), as in ConvNeXt.
    """
    activation: nn.Module
    call: int
    shape: Tuple[int, ...]
    norm: Optional[_BatchNorm]
    channels_last: bool = False


class ActivationSearch:
    """Watches a dry run for the last activation in a module that works at the module's own resolution.

    Args:
        tap: the tap; its module is watched.
        closing: whether only an activation counts whose output *is* the module's output; there need not be one then.

    Raises:
        DistillationError: if there is no activation module inside.
    """

    def __init__(self, tap: Tap, closing: bool = False):
        self.tap, self.module, self.closing = tap, tap.module, closing
        self.found = False
        self._running = False
        self._calls: Dict[nn.Module, int] = {}
        self._seen: List[FoundActivation] = []
        self._norm: Optional[_BatchNorm] = None
        self._output_shape: Optional[Tuple[int, ...]] = None
        self._last_output: Optional[Tensor] = None
        self._closes = False

    def hook(self) -> List[RemovableHandle]:
        """Registers what watches; returns the handles."""
        activations = [child for child in self.module.modules() if isinstance(child, ACTIVATIONS)]
        if not activations and not self.closing:
            raise TapError(self.tap, f'has no activation module: there is none inside {type(self.module).__name__}')
        # The norm of a shortcut branch may run last, but it normalises the identity, not the block's own output.
        norms = [child for name, child in self.module.named_modules()
                 if isinstance(child, _BatchNorm) and not re.search(r'(^|\.)(downsample|shortcut)(\.|$)', name)]
        handles = [self.module.register_forward_pre_hook(self._enter), self.module.register_forward_hook(self._leave)]
        for child in activations:
            handles += [child.register_forward_pre_hook(self._before_activation),
                        child.register_forward_hook(self._after_activation)]
        handles += [child.register_forward_hook(self._after_norm) for child in norms]
        return handles

    def result(self) -> Optional[FoundActivation]:
        """The activation; None if it has to close the module and none does.

        Raises:
            DistillationError: if the module did not run, or none fits its output.
        """
        if not self.found:
            raise TapError(self.tap, 'was never reached in the forward')
        if self.closing:
            return self._seen[-1] if self._closes else None
        if not self._seen:
            raise TapError(self.tap, f'has no activation module: none ran inside {type(self.module).__name__}')
        if self._output_shape is None or len(self._output_shape) != 4:
            return self._seen[-1]
        # Squeeze-and-excitation has activations on pooled (1x1) features: those are not the block's.
        size = self._output_shape[2:]
        fitting = [entry for entry in self._seen if len(entry.shape) == 4 and entry.shape[2:] == size]
        if fitting:
            return fitting[-1]
        turned = [entry for entry in self._seen if len(entry.shape) == 4 and entry.shape[1:3] == size]
        if turned:
            last = turned[-1]
            return FoundActivation(last.activation, last.call, last.shape, None, channels_last=True)
        raise TapError(self.tap, f'has no activation at its resolution: none inside {type(self.module).__name__} works at '
                       f'that of its output, {tuple(size)}', accepted='a module that has one, or the output')

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._running, self._norm, self._last_output = True, None, None
        self._calls.clear()
        self._seen.clear()

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        outputs = output if isinstance(output, (list, tuple)) else [output]
        tensors = [item for item in outputs if isinstance(item, Tensor)]
        self._output_shape = tuple(tensors[0].shape) if tensors else None
        self._closes = self._last_output is not None and output is self._last_output
        self._running, self.found, self._last_output = False, True, None

    def _before_activation(self, activation: nn.Module, args: Any) -> None:
        if self._running:
            self._calls[activation] = self._calls.get(activation, 0) + 1
            self._seen.append(FoundActivation(activation, self._calls[activation], tuple(args[0].shape), self._norm))

    def _after_activation(self, activation: nn.Module, args: Any, output: Any) -> None:
        if self._running:
            self._last_output = output

    def _after_norm(self, norm: _BatchNorm, args: Any, output: Any) -> None:
        self._norm = norm
