"""The dry run: one image through a model, in eval mode, to find out what its taps are."""
from functools import partial
from typing import Any, Callable, Optional

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..utils.errors import DistillationError
from ..utils.isolation import evaluation_mode, preserved_rng
from .feature_taps import FeatureTaps

Forward = Callable[[Tensor, Any], Any]
"""Runs a model on images and data samples."""


def dry_sample(image: Tensor) -> BaseDataElement:
    """The data sample of an image (1, C, H, W) that fills its batch: what is asked by networks that want one (DETR)."""
    size = tuple(image.shape[2:])
    return BaseDataElement(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
                                         scale_factor=(1.0, 1.0)))


def dry_run(model: nn.Module, taps: FeatureTaps, image: Tensor, forward: Optional[Forward] = None) -> None:
    """Settles ``taps``; leaves modes, buffers and random numbers of the model as they were.

    Args:
        model: the student or the teacher.
        taps: the taps of that model.
        image: (1, C, H, W).
        forward: runs the model on images and data samples; by default in ``mode='tensor'``.

    Raises:
        DistillationError: for a tap that cannot be used, or an image that the model does not take.
    """
    with preserved_rng(), evaluation_mode(model), torch.no_grad():
        try:
            taps.settle(partial(forward or partial(model, mode='tensor'), image, [dry_sample(image)]), image)
        except (AssertionError, RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            if isinstance(error, DistillationError):
                raise
            raise DistillationError(
                f'the {taps.role} ({type(model).__name__}) does not run on a dry-run image of {tuple(image.shape[1:])}: '
                f'{error}', path='model.image_shape',
                hint='Set image_shape=(channels, height, width) to a size it takes.') from error
