"""What the teacher is shown: the student's batch, re-normalised where the two preprocessors differ."""
from typing import Any, Optional, Tuple

import torch
from torch import Tensor, nn

from ..utils.errors import DistillationError


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


def renormalisation(student: Optional[nn.Module], teacher: Optional[nn.Module]) -> Optional[Renormalise]:
    """What turns the student's normalised image into the teacher's, or None where both are the same.

    The student's batch is the only one: geometry and augmentation happen once, in its preprocessor, and the teacher sees
    the result. ``x_t = (x_s * std_s + mean_s - mean_t) / std_t``, with the channel order swapped where the two differ.

    Raises:
        DistillationError: if their numbers of channels differ, or the teacher's image could not be made: a std of 0.
    """
    (mean_s, std_s, swaps_s), (mean_t, std_t, swaps_t) = _normalisation(student), _normalisation(teacher)
    if mean_t.numel() != std_t.numel():
        raise DistillationError(f'has {mean_t.numel()} numbers in mean and {std_t.numel()} in std',
                                path='model.teacher.config.model.data_preprocessor', accepted='as many in both')
    for name, values in dict(mean=mean_t, std=std_t).items():
        if not bool(values.isfinite().all()) or (name == 'std' and not bool((values > 0).all())):
            raise DistillationError(path=f'model.teacher.config.model.data_preprocessor.{name}', given=values.tolist(),
                                    accepted='finite numbers > 0' if name == 'std' else 'finite numbers')
    sizes = {number.numel() for number in (mean_s, std_s, mean_t, std_t)} - {1}
    if len(sizes) > 1:
        raise DistillationError(f'the mean and std of the student and the teacher have {sorted(sizes)} numbers',
                                path='data_preprocessor', accepted='one number, or one for each channel of the images')
    flip = swaps_s != swaps_t
    if flip:
        mean_s, std_s = mean_s.flip(0), std_s.flip(0)
    scale = (std_s / std_t).view(1, -1, 1, 1)
    shift = ((mean_s - mean_t) / std_t).view(1, -1, 1, 1)
    if not flip and bool((scale == 1).all()) and bool((shift == 0).all()):
        return None
    return Renormalise(scale, shift, flip)


def _normalisation(preprocessor: Any) -> Tuple[Tensor, Tensor, bool]:
    # mmseg and mmpretrain name the swap differently from mmengine and mmdet.
    swaps = any(getattr(preprocessor, name, False) for name in ('_channel_conversion', 'channel_conversion', 'to_rgb'))
    if getattr(preprocessor, '_enable_normalize', False):
        return preprocessor.mean.flatten().cpu(), preprocessor.std.flatten().cpu(), swaps
    return torch.zeros(1), torch.ones(1), swaps
