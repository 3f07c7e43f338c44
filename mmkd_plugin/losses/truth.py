"""Ground truth as losses need it: the labelled class of images and pixels, and boxes."""
from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.errors import DistillationError
from .batch import Batch
from .valid_area import pixel_labels

SHARES_TOLERANCE = 1e-2
"""How far the shares of a mixed image may be from 1 in all: in float16, a thousand of them are rounded."""
_ACCEPTED = 'a data set for classification with one label per image, or a loss without labels'


def image_labels(batch: Batch) -> Tensor:
    """The labelled class of every image, (B,) int64; of mixed images (``gt_score``), the class with the largest share.

    Shares sum to 1, as those of mixed or smoothed labels do. Scores that do not are those of an image with several classes,
    or with none.

    Raises:
        DistillationError: if the data samples name no class, or several for an image.
    """
    labels = [_class_of(sample) for sample in batch.data_samples or ()]
    if not labels or any(label is None for label in labels):
        raise _not_one_class('the data samples have none (gt_label)')
    return torch.stack([label for label in labels if label is not None]).to(batch.inputs.device)


def _class_of(sample: Any) -> Optional[Tensor]:
    if 'gt_score' in sample:
        shares = torch.as_tensor(sample.gt_score)
        if not abs(float(shares.double().sum()) - 1) <= SHARES_TOLERANCE:
            raise _not_one_class(f'those of an image sum to {float(shares.double().sum()):g} (gt_score)')
        return shares.argmax()
    if 'gt_label' not in sample:
        return None
    label = torch.as_tensor(sample.gt_label)
    if label.numel() != 1:
        raise _not_one_class(f'an image has {label.numel()} (gt_label)')
    return label.reshape(())


def _not_one_class(problem: str) -> DistillationError:
    return DistillationError(f'the loss needs the labelled class of each image, {problem}', accepted=_ACCEPTED)


def labels_at(batch: Batch, size: Tuple[int, int]) -> Tensor:
    """The labels of the pixels at the resolution of a map, the nearest of each: (B, h, w) int64, as the data set has them.

    Args:
        batch: the batch.
        size: (h, w).

    Raises:
        DistillationError: if the data samples have no label maps.
    """
    labels = pixel_labels(batch.data_samples)
    if labels is None:
        raise DistillationError('the loss needs the labels of pixels, and the data samples have no label maps (gt_sem_seg)',
                                accepted='a data set for semantic segmentation, or a loss without labels')
    return F.interpolate(labels.float(), size, mode='nearest').squeeze(1).long()


def boxes(batch: Batch) -> List[Tensor]:
    """The ground truth of every image: (N, 4) boxes (x1, y1, x2, y2) in pixels of the padded image.

    Raises:
        DistillationError: if the data samples have none.
    """
    samples = batch.data_samples
    if not isinstance(samples, (list, tuple)) or not all(
            'gt_instances' in sample and 'bboxes' in sample.gt_instances for sample in samples):
        raise DistillationError('the loss needs boxes, and the data samples have none (gt_instances.bboxes)',
                                accepted='a data set for detection')
    found = [sample.gt_instances.bboxes for sample in samples]
    return [getattr(each, 'tensor', each) for each in found]
