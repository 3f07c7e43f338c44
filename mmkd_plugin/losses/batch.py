"""What a loss may know about a batch besides features."""
from dataclasses import dataclass, field
from typing import Any, Dict, Hashable, Optional, Tuple

from torch import Tensor


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
