"""What a loss may know about a batch besides features."""
from dataclasses import dataclass, field
from typing import Any, Dict, Hashable, Optional, Sequence, Tuple

from torch import Tensor

from ..taps.shapes import images_of
from ..utils.errors import DistillationError


@dataclass(frozen=True)
class Batch:
    """A training batch as a loss sees it.

    Attributes:
        inputs: (B, C, H, W), the student's normalised images.
        data_samples: ground truth and meta of each image, as the student's preprocessor left them.
        iteration: global iteration, counted from 0 and across resumes.
        masks: what :class:`~mmkd_plugin.losses.valid_area.ValidArea` has found of it, for the next that asks.
    """
    inputs: Tensor
    data_samples: Any
    iteration: int
    masks: Dict[Hashable, Optional[Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def image_size(self) -> Tuple[int, int]:
        """(H, W) of the images, padding included."""
        height, width = self.inputs.shape[2:]
        return height, width

    def part(self, images: Sequence[int], index: Tensor) -> 'Batch':
        """Some of its images, with what belongs to them.

        Args:
            images: their numbers, in the order they are to have.
            index: the same numbers, (n,) int64 on the device of the images, so that it is not waited for.

        Raises:
            DistillationError: where the data samples are of a kind that cannot be divided into those of each image.
        """
        samples, total = self.data_samples, len(self.inputs)
        if isinstance(samples, Tensor) and samples.dim() and len(samples) == total:
            samples = samples[index.to(samples.device)]
        elif isinstance(samples, (list, tuple)) and len(samples) == total:
            samples = [samples[image] for image in images]
        elif samples is not None:
            raise DistillationError(f'does not go with data samples that are a {type(samples).__name__}', path='fraction',
                                    accepted=f'1, or data samples of {total} images in a list, or in a tensor')
        return Batch(images_of(self.inputs, index), samples, self.iteration)
