"""The ResNets of CIFAR (He et al., CVPR 2016, section 4.2), with projection shortcuts as in the distillation literature."""
from typing import Sequence

from torch import Tensor, nn

from ..registry import MODELS
from ..utils.errors import DistillationError
from .stages import InitConfig, StagedBackbone, conv3x3, projection


@MODELS.register_module()
class CIFARResNet(StagedBackbone):
    """ResNet of depth 6n + 2: a 3x3 stem and three stages of n basic blocks at 32x32, 16x16 and 8x8.

    The outputs have 16 w, 32 w and 64 w channels; the stem 16, or 32 where w > 1 (the "x4" networks: ResNet8x4, ResNet32x4).
    ``backbone.layer1@preact`` is the sum of the last block of a stage before its ReLU.

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110, ...
        widen_factor: w.
        out_indices: stages whose output is returned.
        init_cfg: see :class:`~mmkd_plugin.backbones.stages.StagedBackbone`.

    Raises:
        DistillationError: for a depth that is not 6n + 2.
    """

    def __init__(self, depth: int, widen_factor: int = 1, out_indices: Sequence[int] = (-1,), init_cfg: InitConfig = None):
        super().__init__(out_indices, 3, init_cfg)
        if not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
            raise DistillationError(f'depth: {depth!r}. Accepted: 6n + 2 (8, 14, 20, 32, 44, 56, 110, ...).')
        channels = 16 if widen_factor == 1 else 32
        self.conv1 = conv3x3(3, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        for stage in range(3):
            width, blocks = 16 * widen_factor * 2 ** stage, []
            for number in range((depth - 2) // 6):
                blocks.append(BasicBlock(channels, width, 2 if stage and not number else 1))
                channels = width
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))

    def stem(self, images: Tensor) -> Tensor:
        feature: Tensor = self.relu(self.bn1(self.conv1(images)))
        return feature


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        convolution = projection(inputs, outputs, stride)
        self.downsample = convolution and nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        feature: Tensor = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + shortcut)
        return feature
