"""MobileNet (Howard et al., 2017): the student of MGD's and DistPro's tables on ImageNet, which mmpretrain does not have."""
from typing import Sequence

from torch import Tensor, nn

from ..registry import MODELS
from .shufflenet import depthwise, pointwise
from .stages import InitConfig, StagedBackbone

STEM_WIDTH = 32
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Channels, blocks, and the stride of the first block (table 1 of the paper)."""


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNet at width 1: five stages of 64, 128, 256, 512 and 1024 channels, at strides 2, 4, 8, 16 and 32.

    ``backbone.layer2@preact`` is the output of the last norm of a stage, before its ReLU.

    Args:
        out_indices: stages whose output is returned.
        init_cfg: see :class:`~mmkd_plugin.backbones.stages.StagedBackbone`.
    """

    def __init__(self, out_indices: Sequence[int] = (-1,), init_cfg: InitConfig = None):
        super().__init__(out_indices, len(STAGES), init_cfg)
        channels = STEM_WIDTH
        self.conv1 = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.norm1 = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        for stage, (width, depth, stride) in enumerate(STAGES, 1):
            blocks = [separable(channels, width, stride), *(separable(width, width) for _ in range(depth - 1))]
            self.add_module(f'layer{stage}', nn.Sequential(*blocks))
            channels = width

    def stem(self, images: Tensor) -> Tensor:
        feature: Tensor = self.norm1(self.conv1(images))
        return feature


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A depthwise 3x3 convolution and a 1x1 convolution, each with norm and activation."""
    return nn.Sequential(*depthwise(inputs, stride), nn.ReLU(inplace=True), *pointwise(inputs, outputs))
