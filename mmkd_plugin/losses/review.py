"""Knowledge review: a student's features are fused from deep to shallow (ReviewKD, Chen et al., CVPR 2021)."""
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..taps.shapes import map_size, resize
from .cells import only_valid
from .valid_area import masked_norm


class AttentionFusion(nn.Module):
    """Attention based fusion (ABF): a student's feature with what the deeper levels have handed on.

    ``x1 = BN(conv1x1(x))``; with a residual r, resized (nearest) to it: ``a = sigmoid(conv1x1([x1, r]))`` of two channels
    and ``x2 = x1 * a_0 + r * a_1``; ``BN(conv3x3(x2))`` is compared, x2 is handed on.

    Args:
        student_channels: C_s.
        hidden_channels: C_h, the same at all levels.
        teacher_channels: C_t.
        deepest: whether there is no deeper level.
    """

    def __init__(self, student_channels: int, hidden_channels: int, teacher_channels: int, deepest: bool = False):
        super().__init__()
        enter = nn.Conv2d(student_channels, hidden_channels, 1, bias=False)
        leave = nn.Conv2d(hidden_channels, teacher_channels, 3, padding=1, bias=False)
        for convolution in (enter, leave):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.enter = nn.Sequential(enter, nn.BatchNorm2d(hidden_channels))
        self.leave = nn.Sequential(leave, nn.BatchNorm2d(teacher_channels))
        self.attention = None if deepest else nn.Conv2d(2 * hidden_channels, 2, 1)

    def forward(self, feature: Tensor, residual: Optional[Tensor] = None, size: Optional[Tuple[int, int]] = None,
                valid: Optional[Tensor] = None, valid_output: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
        """What is compared, (B, C_t, h, w), and what is handed on, (B, C_h, h, w).

        Args:
            feature: (B, C_s, H, W).
            residual: (B, C_h, h', w'), what the next deeper level has handed on.
            size: (h, w), the teacher's; (H, W) where None.
            valid: (B, 1, H, W) bool, the cells that count; all where None. The others have no part in the statistics of the
                norms, and are 0 to the convolution.
            valid_output: the same at (h, w).
        """
        enter, norm = self.enter
        fused = masked_norm(norm, enter(feature), valid)
        if self.attention is not None:
            assert residual is not None, 'only the deepest level has no residual'
            residual = resize(residual, map_size(fused), 'nearest')
            gates = torch.sigmoid(self.attention(torch.cat([fused, residual], 1)))
            fused = fused * gates[:, :1] + residual * gates[:, 1:]
        fused = only_valid(resize(only_valid(fused, valid), size or map_size(fused), 'nearest'), valid_output)
        leave, norm = self.leave
        return masked_norm(norm, leave(fused), valid_output), fused


def review(fusions: Sequence[nn.Module], features: Sequence[Tensor], sizes: Sequence[Tuple[int, int]],
           cells: Callable[[Tuple[int, int]], Optional[Tensor]] = lambda size: None) -> List[Tensor]:
    """The fused features of all levels, each to be compared with the teacher's by :func:`~mmkd_plugin.losses.hcl`.

    Args:
        fusions: an :class:`AttentionFusion` for each level, shallow to deep.
        features: the student's (B, C_s, H, W), shallow to deep.
        sizes: (h, w) of the teacher's features.
        cells: the cells that count at a resolution, (B, 1, h, w) bool, or None for all.
    """
    fused: List[Tensor] = []
    residual: Optional[Tensor] = None
    for fusion, feature, size in reversed(list(zip(fusions, features, sizes))):
        output, residual = fusion(feature, residual, size, cells(map_size(feature)), cells(size))
        fused.insert(0, output)
    return fused
