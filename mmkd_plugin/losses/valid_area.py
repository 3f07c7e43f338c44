"""Which part of a batch counts: padding, ignored regions and unlabelled pixels do not."""
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..utils.errors import DistillationError
from ..utils.options import Either, Flag, option
from .batch import Batch

ONE_RANK = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""The batch norms that see the images of one rank alone."""


def mask_padding_option() -> Any:
    """The option ``mask_padding`` of every distiller that compares features."""
    return option(Either(Flag(), (None,)), None, 'whether padding and ignored regions are left out; None: True for '
                  'detection, False otherwise')


class ValidArea:
    """Finds the cells of a feature that lie inside the images and outside of what is to be ignored.

    Args:
        mask_padding: True: padding of batched images, ignored boxes (``ignored_instances``) and unlabelled pixels
            (``gt_sem_seg`` equal to ``ignore_index``) do not count. False: everything counts. None: True for detection
            (data samples with ``gt_instances``), False otherwise.
        ignore_index: label of unlabelled pixels, where the data samples do not say it.
        optional: whether a user can switch it off, with ``mask_padding=False``; for messages.

    What counts as padding is what the data preprocessor adds to make a batch. A ``Pad`` transform in the pipeline makes the
    image itself larger (``img_shape``), and what it adds counts.
    """

    def __init__(self, mask_padding: Optional[bool], ignore_index: int = 255, optional: bool = True):
        self.mask_padding, self.ignore_index, self.optional = mask_padding, ignore_index, optional

    def acts(self, batch: Batch) -> bool:
        """Whether batches of this kind are masked. Raises :class:`DistillationError` where they should be but cannot."""
        samples = batch.data_samples
        if not isinstance(samples, (list, tuple)) or not samples:  # a tensor has no truth
            if self.mask_padding:
                problem, accepted = f'that are a {type(samples).__name__}', 'a list with one for each image'
                if self.optional:
                    raise DistillationError(f'does not go with data samples {problem}', path='mask_padding', given=True,
                                            accepted=f'{accepted}, or mask_padding=False')
                raise DistillationError(f'the data set gives data samples {problem}', accepted=accepted)
            return False
        return is_detection(samples) if self.mask_padding is None else self.mask_padding

    def cells(self, batch: Batch, size: Tuple[int, int]) -> Optional[Tensor]:
        """The valid cells of a feature of resolution (h, w): (B, 1, h, w) bool, or None where all are.

        A cell is valid if its centre lies in the image and in no ignored box, and its label (the nearest) is known. No value
        of the device is waited for. It is found once for a batch and a resolution, whoever asks.
        """
        if not self.acts(batch):
            return None
        key = size, self.ignore_index
        if key not in batch.masks:
            batch.masks[key] = self._cells(batch, size)
        return batch.masks[key]

    def refuse_norms_over_ranks(self, batch: Batch, norms: nn.Module, path: str, accepted: str) -> None:
        """Raises :class:`DistillationError` where a SyncBN would have to leave padding out, which only each rank knows.

        It does so for every batch of a kind that is masked, padded or not: all ranks have to end here, not one of them.

        Args:
            batch: the batch at hand.
            norms: the module whose norms are looked at.
            path: the option they come from.
            accepted: what it may be instead.
        """
        # By name: mmcv has one of its own.
        if self.acts(batch) and any('SyncBatchNorm' in type(module).__name__ for module in norms.modules()):
            raise DistillationError('cannot leave out padding', path=path, given='SyncBN',
                                    accepted=f'{accepted}, or mask_padding=False')

    def _cells(self, batch: Batch, size: Tuple[int, int]) -> Optional[Tensor]:
        samples = batch.data_samples
        mask = _inside_images(batch, size)
        labels = pixel_labels(samples)
        if labels is not None:
            ignored = samples[0].gt_sem_seg.get('ignore_index', self.ignore_index)  # mmdet says it there
            known = F.interpolate(labels.float(), size, mode='nearest') != ignored
            mask = known if mask is None else mask & known
        for number, sample in enumerate(samples):
            boxes = _ignored_boxes(sample)
            if boxes is not None:
                if mask is None:
                    mask = torch.ones(len(samples), 1, *size, dtype=torch.bool, device=batch.inputs.device)
                mask[number, 0] &= ~_cells_inside(boxes, batch.image_size, size)
        return mask


def is_detection(samples: Any) -> bool:
    """Whether data samples are those of a detector (their class has ``gt_instances``)."""
    return hasattr(type(samples[0]), 'gt_instances')


def pixel_labels(samples: Any) -> Optional[Tensor]:
    """The batch's label maps (B, 1, H, W), or None where the samples carry none."""
    fields = [sample.gt_sem_seg for sample in samples or () if 'gt_sem_seg' in sample]
    if not fields or len(fields) < len(samples):
        return None
    return torch.stack([field.data if 'data' in field else field.sem_seg for field in fields])  # mmseg's, mmdet's name


def _inside_images(batch: Batch, size: Tuple[int, int]) -> Optional[Tensor]:
    """(B, 1, h, w) bool: centres inside the unpadded images; None where nothing is padded."""
    height, width = batch.image_size
    areas = [_image_area(sample, height, width) for sample in batch.data_samples]
    if all(area == (0, height, 0, width) for area in areas):
        return None
    mask = torch.zeros(len(areas), 1, *size, dtype=torch.bool, device=batch.inputs.device)
    for number, (top, bottom, left, right) in enumerate(areas):
        rows, columns = _span(top, bottom, height, size[0]), _span(left, right, width, size[1])
        mask[number, :, rows, columns] = True
    return mask


def _image_area(sample: Any, height: int, width: int) -> Tuple[int, int, int, int]:
    """(top, bottom, left, right) of the image inside its padded version, in pixels."""
    meta = getattr(sample, 'metainfo', {})
    if 'padding_size' in meta:  # mmseg, whose img_shape is that after padding
        left, right, top, bottom = meta['padding_size']
        return top, height - bottom, left, width - right
    if 'img_shape' in meta:
        return 0, min(int(meta['img_shape'][0]), height), 0, min(int(meta['img_shape'][1]), width)
    return 0, height, 0, width


def _span(begin: int, end: int, pixels: int, cells: int) -> slice:
    """The cells whose centres (i + 0.5) * pixels / cells lie in [begin, end)."""
    def first_at(position: int) -> int:
        return max(0, -(-(2 * position * cells - pixels) // (2 * pixels)))

    return slice(first_at(begin), first_at(end))


def _ignored_boxes(sample: Any) -> Optional[Tensor]:
    """(N, 4) boxes (x1, y1, x2, y2) in pixels of the padded image, or None."""
    if 'ignored_instances' not in sample or 'bboxes' not in sample.ignored_instances:
        return None
    boxes = sample.ignored_instances.bboxes
    boxes = getattr(boxes, 'tensor', boxes)
    return boxes if len(boxes) else None


def _cells_inside(boxes: Tensor, image_size: Tuple[int, int], size: Tuple[int, int]) -> Tensor:
    """(h, w) bool: cells whose centre lies in one of the boxes."""
    y = ((torch.arange(size[0], device=boxes.device) + 0.5) * image_size[0] / size[0]).view(-1, 1, 1)
    x = ((torch.arange(size[1], device=boxes.device) + 0.5) * image_size[1] / size[1]).view(1, -1, 1)
    return ((x >= boxes[:, 0]) & (y >= boxes[:, 1]) & (x < boxes[:, 2]) & (y < boxes[:, 3])).any(2)


def masked_mean(values: Tensor, valid: Optional[Tensor]) -> Tensor:
    """Mean of (B, C, H, W) over the valid cells (B, 1, H, W); over all where ``valid`` is None; 0 where none is valid."""
    if valid is None:
        return values.mean()
    return (values * valid).sum() / (valid.sum() * values.shape[1]).clamp(min=1)


def masked_norm(norm: nn.Module, feature: Tensor, valid: Optional[Tensor]) -> Tensor:
    """A norm that takes its statistics from the valid cells alone: ``norm(feature)`` where nothing is padded.

    Args:
        norm: a batch norm (of this rank, not SyncBN), group norm, instance norm or identity.
        feature: (B, C, H, W) float32.
        valid: (B, 1, H, W) bool, or None for all.

    Returns:
        (B, C, H, W); what invalid cells hold has no meaning.

    Raises:
        DistillationError: for a batch norm in training and one value of every channel, which has no variance.
    """
    if valid is None or isinstance(norm, nn.Identity) or (isinstance(norm, _BatchNorm) and not norm.training):
        if type(norm) in ONE_RANK and norm.training and feature.numel() == feature.shape[1]:
            raise DistillationError('its batch norm sees one value of every channel, of which there is no variance',
                                    hint='Give it more images (batch_size, fraction), a map, or another norm.')
        plain: Tensor = norm(feature)
        return plain
    assert isinstance(norm, (_BatchNorm, _InstanceNorm, nn.GroupNorm)), 'no other norm is accepted where one is chosen'
    batch, channels, *size = feature.shape
    dims: Tuple[int, ...]
    if isinstance(norm, _BatchNorm):
        grouped, cells, dims = feature, valid.to(feature.dtype), (0, 2, 3)
    else:
        groups = channels if isinstance(norm, _InstanceNorm) else norm.num_groups
        grouped = feature.view(batch, groups, channels // groups, *size)
        cells, dims = valid.to(feature.dtype).unsqueeze(1), (2, 3, 4)
    # Cells of one channel times the channels that share the statistics.
    count = (cells.sum(dims, keepdim=True) * (grouped.shape[2] if grouped.dim() == 5 else 1)).clamp(min=1)
    mean = (grouped * cells).sum(dims, keepdim=True) / count
    variance = ((grouped - mean).square() * cells).sum(dims, keepdim=True) / count
    if isinstance(norm, _BatchNorm) and norm.track_running_stats:
        _track(norm, mean.flatten(), (variance * count / (count - 1).clamp(min=1)).flatten(), cells.any())
    normalised = ((grouped - mean) * (variance + norm.eps).rsqrt()).view_as(feature)
    if norm.weight is None:
        return normalised
    return normalised * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, seen: Tensor) -> None:
    """Moves the running statistics, where a cell has been seen at all."""
    assert norm.num_batches_tracked is not None, 'it tracks running statistics'
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.num_batches_tracked.add_(seen)
    momentum = 1 / norm.num_batches_tracked.clamp(min=1) if norm.momentum is None else norm.momentum
    share = seen * momentum
    norm.running_mean.lerp_(mean, share.to(mean.dtype))
    norm.running_var.lerp_(variance, share.to(mean.dtype))
