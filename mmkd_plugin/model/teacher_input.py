"""What the teacher is shown: the student's batch, re-normalised where the two preprocessors differ."""
from dataclasses import dataclass
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.errors import DistillationError


@dataclass(frozen=True)
class Normalisation:
    """How a model has its images.

    Attributes:
        mean, std: what images in 0..255 are normalised with, one number or one for each channel, in the order of the
            model's channels.
        swaps: whether the order of the channels is the other one than that of the loaded images; None: as the student's.
    """
    mean: Tensor
    std: Tensor
    swaps: Optional[bool]

    def check(self) -> None:
        """Raises :class:`DistillationError` for numbers that no image can be made with."""
        if self.mean.numel() != self.std.numel():
            raise DistillationError(f'has {self.mean.numel()} numbers in mean and {self.std.numel()} in std',
                                    accepted='as many in both')
        for name, values in dict(mean=self.mean, std=self.std).items():
            if not bool(values.isfinite().all()) or (name == 'std' and not bool((values > 0).all())):
                raise DistillationError(path=name, given=values.tolist(),
                                        accepted='finite numbers > 0' if name == 'std' else 'finite numbers')


class Renormalise:
    """x * scale + shift after an optional swap of the channel order.

    Attributes:
        channels: how many numbers there are in scale or shift, 1 for any image.
    """

    def __init__(self, scale: Tensor, shift: Tensor, flip: bool):
        self.scale, self.shift, self.flip = scale, shift, flip
        self.channels = max(scale.numel(), shift.numel())

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.scale.device != inputs.device:
            self.scale, self.shift = self.scale.to(inputs.device), self.shift.to(inputs.device)
        if self.flip:
            inputs = inputs.flip(1)
        return torch.addcmul(self.shift, inputs, self.scale)


def to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Images (B, C, H, W), resized bilinearly up to the next height and width that are multiples of so many pixels."""
    size = tuple(-(-length // multiple) * multiple for length in images.shape[2:])
    if size == tuple(images.shape[2:]):
        return images
    return F.interpolate(images, size, mode='bilinear', align_corners=False)


def renormalisation(student: Normalisation, teacher: Normalisation) -> Optional[Renormalise]:
    """What turns the student's normalised image into the teacher's, or None where both are the same.

    The student's batch is the only one: geometry and augmentation happen once, in its preprocessor, and the teacher sees
    the result. ``x_t = (x_s * std_s + mean_s - mean_t) / std_t``, with the channel order swapped where the two differ.

    Raises:
        DistillationError: if their numbers of channels differ.
    """
    sizes = {number.numel() for number in (student.mean, student.std, teacher.mean, teacher.std)} - {1}
    if len(sizes) > 1:
        raise DistillationError(f'the mean and std of the student and the teacher have {sorted(sizes)} numbers',
                                path='data_preprocessor', accepted='one number, or one for each channel of the images')
    flip = teacher.swaps is not None and student.swaps != teacher.swaps
    mean, std = (student.mean.flip(0), student.std.flip(0)) if flip else (student.mean, student.std)
    scale = (std / teacher.std).view(1, -1, 1, 1)
    shift = ((mean - teacher.mean) / teacher.std).view(1, -1, 1, 1)
    if not flip and bool((scale == 1).all()) and bool((shift == 0).all()):
        return None
    return Renormalise(scale, shift, flip)


def normalisation_of(preprocessor: Any) -> Normalisation:
    """What a data preprocessor makes of images; that of a model without one leaves them as they are."""
    # mmseg and mmpretrain name the swap differently from mmengine and mmdet.
    swaps = any(getattr(preprocessor, name, False) for name in ('_channel_conversion', 'channel_conversion', 'to_rgb'))
    if getattr(preprocessor, '_enable_normalize', False):
        return Normalisation(preprocessor.mean.flatten().cpu(), preprocessor.std.flatten().cpu(), swaps)
    return Normalisation(torch.zeros(1), torch.ones(1), swaps)
