"""What the backbones share: initialisation, the choice of outputs, and the layers of residual blocks."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..utils.errors import DistillationError

InitConfig = Union[Dict[str, Any], List[Dict[str, Any]], None]

INIT = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', layer='_BatchNorm', val=1)]


class StagedBackbone(BaseModule):
    """A stem and stages ``layer1``, ``layer2``, ...

    Args:
        out_indices: which stages' outputs :meth:`forward` returns, counted from 0; -1 is the last.
        num_stages: how many stages there are.
        init_cfg: how the weights begin, as mmengine's ``init_cfg``; by default Kaiming for convolutions.

    Raises:
        DistillationError: for a stage that does not exist.
    """

    def __init__(self, out_indices: Sequence[int], num_stages: int, init_cfg: InitConfig):
        super().__init__(INIT if init_cfg is None else init_cfg)
        for index in out_indices:
            if not isinstance(index, int) or not -num_stages <= index < num_stages:
                raise DistillationError(f'out_indices: {index!r}. Accepted: whole numbers from {-num_stages} to '
                                        f'{num_stages - 1}.')
        self.num_stages = num_stages
        self.out_indices = sorted({index % num_stages for index in out_indices})

    def stem(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) as the input of ``layer1``."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Maps (B, C_i, H_i, W_i) of the stages in ``out_indices``, after their activation."""
        feature, outputs = self.stem(images), []
        for index in range(self.num_stages):
            feature = getattr(self, f'layer{index + 1}')(feature)
            if index in self.out_indices:
                outputs.append(feature)
        return tuple(outputs)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias, padded by 1."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


def projection(inputs: int, outputs: int, stride: int) -> Optional[nn.Conv2d]:
    """The 1x1 convolution of a shortcut, or None where the identity will do."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride != 1 or inputs != outputs else None
