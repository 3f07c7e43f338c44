"""Focal (boxes, attention) and global (relations between cells) distillation of detectors: FGD (Yang et al., CVPR 2022)."""
from dataclasses import dataclass
from typing import ClassVar, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import map_size
from ..utils.errors import DistillationError
from ..utils.kinds import TEMPERATURE
from ..utils.options import Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import masked_log_softmax, only_valid
from .truth import boxes


def box_masks(boxes: Sequence[Tensor], image_size: Tuple[int, int], size: Tuple[int, int], like: Tensor,
              valid: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """Weights of the cells in boxes and of those outside: each box, and the background, weighs about 1 in all.

    As in the authors' code a box reaches from the floor of its upper left corner to the ceiling of the lower right one, in
    cells, that cell included. A cell in several boxes has the weight of the smallest.

    Args:
        boxes: for each image (N, 4), (x1, y1, x2, y2) in pixels.
        image_size: (H, W) of the images in pixels, padding included.
        size: (h, w) of the map.
        like: a tensor whose device and dtype are taken.
        valid: (B, 1, h, w) bool, the cells that count; all where None.

    Returns:
        (B, 1, h, w) foreground and background.
    """
    rows = torch.arange(size[0], device=like.device).view(1, -1, 1)
    columns = torch.arange(size[1], device=like.device).view(1, 1, -1)
    masks = []
    for found in boxes:
        x1, y1, x2, y2 = (found.to(like) / like.new_tensor(image_size[::-1] * 2) * like.new_tensor(size[::-1] * 2)).unbind(1)
        left, top = x1.floor().view(-1, 1, 1), y1.floor().view(-1, 1, 1)
        right, bottom = x2.ceil().view(-1, 1, 1), y2.ceil().view(-1, 1, 1)
        inside = (rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)
        weights = inside / ((bottom + 1 - top) * (right + 1 - left))
        masks.append(torch.cat([weights, weights.new_zeros(1, *size)]).amax(0))  # zeros: an image may have no box
    foreground = only_valid(torch.stack(masks).unsqueeze(1), valid)
    background = only_valid((foreground == 0).to(like.dtype), valid)
    return foreground, background / background.sum((2, 3), keepdim=True).clamp(min=1)


def attention(feature: Tensor, temperature: float = 0.5, valid: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """Attention over cells and over channels: softmaxes of mean magnitudes, mean 1.

    Args:
        feature: (B, C, H, W).
        temperature: T.
        valid: (B, 1, H, W) bool, the cells that count; all where None. The others have attention 0.

    Returns:
        (B, 1, H, W) and (B, C, 1, 1).
    """
    magnitude = only_valid(feature.abs(), valid)
    batch, channels, height, width = feature.shape
    cells = feature.new_tensor(height * width) if valid is None else valid.sum((2, 3)).to(feature.dtype)
    over_cells = masked_log_softmax(magnitude.mean(1).flatten(1) / temperature, None if valid is None else valid.flatten(1))
    over_channels = F.softmax(magnitude.sum((2, 3)) / cells.clamp(min=1) / temperature, 1)
    return (cells * over_cells.exp()).view(batch, 1, height, width), channels * over_channels.view(batch, channels, 1, 1)


def focal_terms(student: Tensor, teacher: Tensor, foreground: Tensor, background: Tensor, temperature: float = 0.5,
                valid: Optional[Tensor] = None) -> Tuple[Tensor, Tensor, Tensor]:
    """The focal part of FGD, not weighted: foreground, background, attention.

    Squared differences weighted with a mask and with the teacher's attentions, and the absolute difference of the
    attentions; all added up, mean over the images.

    Args:
        student, teacher: (B, C, H, W); the gradient reaches the student only.
        foreground, background: (B, 1, H, W), see :func:`box_masks`.
        temperature: T of the attentions.
        valid: (B, 1, H, W) bool, the cells that count; all where None.
    """
    teacher = teacher.detach()
    spatial, channel = attention(teacher, temperature, valid)
    ours, our_channels = attention(student, temperature, valid)
    squares = only_valid((student - teacher).square(), valid) * spatial * channel
    distance = (our_channels - channel).abs().sum() + only_valid((ours - spatial).abs(), valid).sum()
    images = len(student)
    return (squares * foreground).sum() / images, (squares * background).sum() / images, distance / images


class GlobalContext(nn.Module):
    """Adds to every cell what a map holds as a whole (GcBlock): ``f + W2 ReLU(LN(W1 sum of softmax(w f) f))``.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(1, channels // 2)
        self.attention = nn.Conv2d(channels, 1, 1)
        nn.init.kaiming_normal_(self.attention.weight, mode='fan_in')
        last = nn.Conv2d(hidden, channels, 1)
        for parameter in last.parameters():  # nothing is added at first
            nn.init.zeros_(parameter)
        self.transform = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(inplace=True),
                                       last)

    def forward(self, feature: Tensor, valid: Optional[Tensor] = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); cells that are not ``valid``, (B, 1, H, W) bool, are no part of the whole."""
        log = masked_log_softmax(self.attention(feature).flatten(2), None if valid is None else valid.flatten(2))
        context = only_valid(feature, valid).flatten(2) @ log.exp().transpose(1, 2)
        moved: Tensor = feature + self.transform(context.unsqueeze(3))
        return moved


@MODELS.register_module()
class FGDLoss(FeatureLoss):
    """Focal and global distillation (Yang et al., CVPR 2022) for detectors. Needs boxes.

    :func:`focal_terms`, and the squared difference of both features after a :class:`GlobalContext` of their own (added up,
    mean over the images; both are trained with the student). In the authors' configs the weights differ from detector to
    detector.

    In a config::

        fgd=dict(type='mmkd.FeatureDistiller', pairs=['neck[0]', 'neck[1]', 'neck[2]', 'neck[3]', 'neck[4]'], loss='fgd')
    """
    short = 'fgd'
    widths: ClassVar[str] = 'equal'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of FGD."""
        temperature: float = option(TEMPERATURE, 0.5, 'T of the attentions')
        foreground: float = option(Number(least=0), 0.001, "weight of what is in boxes (the paper's alpha)")
        background: float = option(Number(least=0), 0.0005, "weight of what is outside (the paper's beta)")
        attention: float = option(Number(least=0), 0.001, "weight of the attentions (the paper's gamma)")
        relation: float = option(Number(least=0), 5e-6, "weight of the global part (the paper's lambda)")

    options: Options

    def prepare(self, student: TapInfo, teacher: TapInfo) -> None:
        self.student_context, self.teacher_context = GlobalContext(teacher.channels), GlobalContext(teacher.channels)

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        if batch is None:
            raise DistillationError('needs the batch, for its boxes', path='loss', given='mmkd.FGDLoss')
        foreground, background = box_masks(boxes(batch), batch.image_size, map_size(student), student, valid)
        inside, outside, attentions = focal_terms(student, teacher, foreground, background, self.options.temperature, valid)
        relation = self.relation(student, teacher, valid)
        options = self.options
        return (options.foreground * inside + options.background * outside + options.attention * attentions
                + options.relation * relation)

    def relation(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None) -> Tensor:
        """The global part, not weighted; arguments as those of :meth:`forward`."""
        ours, theirs = self.student_context(student, valid), self.teacher_context(teacher.detach(), valid)
        return only_valid((ours - theirs).square(), valid).sum() / len(student)
