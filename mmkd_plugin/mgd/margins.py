"""Margins that are measured: the mean negative response of a teacher channel, where no batch norm tells it
(:func:`~mmkd_plugin.losses.margins.margins_from_norm`)."""
import torch
from torch import Tensor


def negative_sums(feature: Tensor) -> Tensor:
    """Per channel the sum and the number of negative responses: what :func:`margins_from_sums` is made of.

    Args:
        feature: (B, C, H, W).

    Returns:
        (2, C) float64 where the device has it.
    """
    negative = feature.float().clamp(max=0)
    return torch.stack([negative.sum((0, 2, 3)), (feature < 0).sum((0, 2, 3)).to(negative.dtype)])


def margins_from_sums(sums: Tensor) -> Tensor:
    """Mean negative response per channel, 0 where there was none.

    Args:
        sums: (2, C), :func:`negative_sums` added up over all batches.
    """
    return sums[0] / sums[1].clamp(min=1)
