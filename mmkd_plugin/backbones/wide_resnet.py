"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016)."""
from typing import Sequence

from torch import Tensor, nn

from ..registry import MODELS
from ..utils.errors import DistillationError
from .stages import InitConfig, StagedBackbone, conv3x3, projection


@MODELS.register_module()
class WideResNet(StagedBackbone):
    """WRN of depth 6n + 4: a 3x3 stem and three stages of n pre-activation blocks, of 16 k, 32 k and 64 k channels.

    A stage ends with the norm and the ReLU that the literature counts as the next stage's first: the same function and the
    same parameters, but ``backbone.layer1@preact`` is then the feature the distillation literature uses (the norm's output),
    with the norm there for margins. ``backbone.layer1.blocks`` holds the blocks, whose outputs are pre-activation sums.

    Args:
        depth: 16, 22, 28, 40, ...
        widen_factor: k.
        out_indices: stages whose output is returned.
        init_cfg: see :class:`~mmkd_plugin.backbones.stages.StagedBackbone`.

    Raises:
        DistillationError: for a depth that is not 6n + 4.
    """

    def __init__(self, depth: int, widen_factor: int = 1, out_indices: Sequence[int] = (-1,), init_cfg: InitConfig = None):
        super().__init__(out_indices, 3, init_cfg)
        if not isinstance(depth, int) or depth < 10 or (depth - 4) % 6:
            raise DistillationError(f'depth: {depth!r}. Accepted: 6n + 4 (10, 16, 22, 28, 40, ...).')
        channels = 16
        self.conv1 = conv3x3(3, channels)
        # With k = 1 the first stage's first shortcut is the identity of the stem's raw output; its norm stays inside.
        activated = widen_factor != 1
        self.norm1 = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)) if activated else nn.Identity()
        for stage in range(3):
            width = 16 * widen_factor * 2 ** stage
            self.add_module(f'layer{stage + 1}', WideStage(channels, width, (depth - 4) // 6, 2 if stage else 1,
                                                           activated or stage > 0))
            channels = width

    def stem(self, images: Tensor) -> Tensor:
        feature: Tensor = self.norm1(self.conv1(images))
        return feature


class WideStage(nn.Module):
    """Blocks, then the norm and the activation that whatever follows wants."""

    def __init__(self, inputs: int, width: int, depth: int, stride: int, activated: bool):
        super().__init__()
        first = PreActBlock(inputs, width, stride, activated)
        self.blocks = nn.Sequential(first, *(PreActBlock(width, width) for _ in range(depth - 1)))
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        feature: Tensor = self.relu(self.norm(self.blocks(x)))
        return feature


class PreActBlock(nn.Module):
    """conv(act(bn(conv(act(bn(x)))))) + shortcut.

    Args:
        inputs, width: channels of input and output.
        stride: stride of the first convolution, and of the shortcut.
        activated: the input has been through norm and activation already, and the shortcut starts there too.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1, activated: bool = False):
        super().__init__()
        self.norm1 = nn.Identity() if activated else nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.conv1 = conv3x3(inputs, width, stride)
        self.norm2 = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.conv2 = conv3x3(width, width)
        self.projection = projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        feature: Tensor = self.conv2(self.norm2(self.conv1(self.norm1(x)))) + shortcut
        return feature
