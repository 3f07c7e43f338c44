"""One forward of a network for its features."""
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Hashable, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..taps import FeatureSum, FeatureTaps
from ..utils.torch_versions import autocast_dtype

Forward = Callable[[Tensor, Any], object]
"""Runs a network on images (B, C, H, W) and their data samples; what it returns is not looked at."""


@dataclass(frozen=True)
class Call:
    """What the features of a batch depend on, beside the network.

    Attributes:
        inputs: images (B, C, H, W), as the network takes them.
        data_samples: the batch's data samples, for networks that want them.
        addresses: the taps that are wanted; None: all.
        sums: weighted sums of features.
    """
    inputs: Tensor
    data_samples: Any = None
    addresses: Optional[Sequence[str]] = None
    sums: Sequence[FeatureSum] = ()

    def with_inputs(self, inputs: Tensor) -> 'Call':
        """The same with other images."""
        return replace(self, inputs=inputs)

    def first(self, images: int, all_taps: bool = False) -> 'Call':
        """The same for the first images of the batch; of all taps and without sums, if wanted."""
        samples = self.data_samples
        part = replace(self, inputs=self.inputs[:images],
                       data_samples=samples[:images] if isinstance(samples, (list, tuple)) else samples)
        return replace(part, addresses=None, sums=()) if all_taps else part

    def key(self) -> Tuple[Hashable, ...]:
        """Equal for calls that differ in the numbers of the images only."""
        inputs, kind = self.inputs, self.inputs.device.type
        sums = tuple((total.name, tuple(total.weights.items())) for total in self.sums)
        wanted = None if self.addresses is None else tuple(self.addresses)
        return tuple(inputs.shape), inputs.stride(), inputs.dtype, inputs.device, wanted, sums, autocast_dtype(kind)


def recorded(taps: FeatureTaps, forward: Forward, call: Call) -> Dict[str, Tensor]:
    """Features by address and sums by name, without gradient; the forward ends at the deepest tap."""
    with torch.no_grad(), taps.record(call.addresses, stop_when_complete=True, sums=call.sums) as recording:
        forward(call.inputs, call.data_samples)
    return recording.features(call.inputs)
