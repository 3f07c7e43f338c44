"""ShuffleNets with the CIFAR stem of the distillation literature (RepDistiller, Tian et al., ICLR 2020)."""
from typing import Sequence, Tuple

import torch
from torch import Tensor, nn

from ..registry import MODELS
from ..utils.errors import DistillationError
from .stages import InitConfig, StagedBackbone

STEM_WIDTH = 24
# Of the stages and the last convolution, by width (table 5 of the paper).
V2_CHANNELS = {0.5: (48, 96, 192, 1024), 1.0: (116, 232, 464, 1024), 1.5: (176, 352, 704, 1024), 2.0: (244, 488, 976, 2048)}


class ShuffleBackbone(StagedBackbone):
    """What both have: a stem of a 1x1 convolution to 24 channels, at full resolution."""

    def __init__(self, out_indices: Sequence[int], num_stages: int, init_cfg: InitConfig = None):
        super().__init__(out_indices, num_stages, init_cfg)
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 1, bias=False)
        self.norm1 = nn.Sequential(nn.BatchNorm2d(STEM_WIDTH), nn.ReLU(inplace=True))

    def stem(self, images: Tensor) -> Tensor:
        feature: Tensor = self.norm1(self.conv1(images))
        return feature


@MODELS.register_module()
class CIFARShuffleNetV1(ShuffleBackbone):
    """ShuffleNet (Zhang et al., CVPR 2018) with 3 groups: stages of 4, 8 and 4 blocks at 16x16, 8x8 and 4x4.

    The outputs have 240, 480 and 960 channels. ``backbone.layer1@preact`` is what the last ReLU of a stage gets: the sum of
    a block and its shortcut.

    Args:
        out_indices: stages whose output is returned.
        init_cfg: see :class:`~mmkd_plugin.backbones.stages.StagedBackbone`.
    """

    def __init__(self, out_indices: Sequence[int] = (-1,), init_cfg: InitConfig = None):
        super().__init__(out_indices, 3, init_cfg)
        channels = STEM_WIDTH
        for stage, (width, depth) in enumerate(((240, 4), (480, 8), (960, 4))):
            # The first block's shortcut is concatenated: together they have the stage's width.
            blocks = [GroupedBlock(channels, width - channels, 2, first_groups=3 if stage else 1)]
            blocks += [GroupedBlock(width, width) for _ in range(depth - 1)]
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))
            channels = width


class GroupedBlock(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; the shortcut is added, or pooled and concatenated at stride 2.

    Args:
        inputs: channels of the input.
        outputs: channels that the branch gives; at stride 2 the block has ``inputs`` more, from its shortcut.
        stride: stride of the depthwise convolution.
        first_groups: groups of the first convolution; the last has 3.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, first_groups: int = 3):
        super().__init__()
        middle = outputs // 4
        self.groups = first_groups
        self.reduce = nn.Sequential(nn.Conv2d(inputs, middle, 1, groups=first_groups, bias=False), nn.BatchNorm2d(middle),
                                    nn.ReLU(inplace=True))
        self.spatial = nn.Sequential(*depthwise(middle, stride), nn.ReLU(inplace=True))
        self.expand = nn.Sequential(nn.Conv2d(middle, outputs, 1, groups=3, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.expand(self.spatial(shuffle(self.reduce(x), self.groups)))
        feature: Tensor = self.relu(branch + x if self.shortcut is None else torch.cat([branch, self.shortcut(x)], 1))
        return feature


@MODELS.register_module()
class CIFARShuffleNetV2(ShuffleBackbone):
    """ShuffleNetV2 (Ma et al., ECCV 2018): stages of 4, 8 and 4 blocks at 16x16, 8x8 and 4x4, then a convolution.

    At width 1 the stages have 116, 232 and 464 channels, and ``layer4``, the convolution, has 1024.
    ``backbone.layer1@preact`` is the last block's output before its ReLU. The half of a block that is passed on is not
    negative, so that one ReLU after the shuffle is the published network.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0, as published.
        out_indices: stages whose output is returned, counted from 0; 3, or -1, is the convolution.
        init_cfg: see :class:`~mmkd_plugin.backbones.stages.StagedBackbone`.

    Raises:
        DistillationError: for another width.
    """

    def __init__(self, widen_factor: float = 1.0, out_indices: Sequence[int] = (-1,), init_cfg: InitConfig = None):
        super().__init__(out_indices, 4, init_cfg)
        if widen_factor not in V2_CHANNELS:
            raise DistillationError(f'widen_factor: {widen_factor!r}. Accepted: {", ".join(map(str, V2_CHANNELS))}.')
        *widths, last = V2_CHANNELS[widen_factor]
        channels = STEM_WIDTH
        for stage, (width, depth) in enumerate(zip(widths, (4, 8, 4))):
            blocks = [DownBlock(channels, width), *(SplitBlock(width) for _ in range(depth - 1))]
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))
            channels = width
        self.layer4 = nn.Sequential(*pointwise(channels, last))


class SplitBlock(nn.Module):
    """One half of the channels goes through a branch, the other is passed on; then the two are shuffled."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(*pointwise(half, half), *depthwise(half, 1), *pointwise(half, half)[:2])
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        passed, used = x.chunk(2, 1)
        feature: Tensor = self.relu(shuffle(torch.cat([passed, self.branch(used)], 1), 2))
        return feature


class DownBlock(nn.Module):
    """Two branches of stride 2, each with half of the outputs, shuffled."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(*depthwise(inputs, 2), *pointwise(inputs, half)[:2])
        self.right = nn.Sequential(*pointwise(inputs, half), *depthwise(half, 2), *pointwise(half, half)[:2])
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        feature: Tensor = self.relu(shuffle(torch.cat([self.left(x), self.right(x)], 1), 2))
        return feature


def pointwise(inputs: int, outputs: int) -> Tuple[nn.Module, ...]:
    """1x1 convolution, norm, activation."""
    return nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def depthwise(channels: int, stride: int) -> Tuple[nn.Module, ...]:
    """Depthwise 3x3 convolution and norm."""
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """(B, C, H, W) with its channels, seen as (groups, C / groups), transposed."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(batch, channels, height, width)
