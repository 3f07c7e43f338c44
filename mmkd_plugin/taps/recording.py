"""What one forward of a model leaves with its taps: features as they are, weighted sums of them, and replacements."""
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from torch import Tensor

from ..utils.errors import DistillationError
from ..utils.torch_versions import Edge, gradient_edge
from .shapes import map_size, tokens_to_map, widened
from .tap import Tap, TapError


class TapsComplete(Exception):
    """Stops a forward once every wanted tap has been recorded; never leaves this package."""


@dataclass(frozen=True)
class FeatureSum:
    """A weighted sum of features of equal shape, made in float32 at least as they arrive, so that none of them is kept.

    Attributes:
        name: the name under which the sum is found among the features.
        weights: factor by address; an address of weight 0 is not looked at.
    """
    name: str
    weights: Mapping[str, float]

    @property
    def addresses(self) -> List[str]:
        """The addresses of what is summed."""
        return [address for address, weight in self.weights.items() if weight != 0]


class Recording:
    """The features of one forward, valid until :meth:`FeatureTaps.record` is left.

    Attributes:
        edges: where each feature that has a gradient stands in the autograd graph, by address; holds also where the
            feature was cloned, or is changed in place later.
    """

    def __init__(self, taps: Sequence[Tap], role: str, stop_when_complete: bool, wanted: Sequence[str],
                 sums: Sequence[FeatureSum], replace: Mapping[str, Callable[[Tensor], Tensor]]):
        self.role = role
        self._taps = {tap.address: tap for tap in taps}
        self._stop = stop_when_complete
        self._wanted, self._sums, self._replace = wanted, sums, replace
        self._reached: Dict[str, None] = {}  # in the order of the forward
        self._features: Dict[str, Tensor] = {}
        self._versions: Dict[str, int] = {}
        self._totals: Dict[str, Tensor] = {}
        self.edges: Dict[str, Edge] = {}

    def add(self, tap: Tap, feature: Tensor) -> Optional[Tensor]:
        """Takes a feature in. Returns what the model goes on with, or None if that is the feature itself."""
        if tap.address in self._reached:
            raise TapError(tap, 'was reached twice in one forward (a module that is shared, or run again)',
                           hint='Tap a module that runs once.')
        self._reached[tap.address] = None
        for total in self._sums:
            self._add_to(total, tap, feature)
        if tap.address in self._wanted:
            if feature.requires_grad:
                self.edges[tap.address] = gradient_edge(feature)
            kept = feature.clone() if tap.needs_clone else feature
            self._features[tap.address] = kept
            self._versions[tap.address] = kept._version
        if self._stop and self.complete:
            raise TapsComplete
        return self._replace[tap.address](feature) if tap.address in self._replace else None

    def _add_to(self, total: FeatureSum, tap: Tap, feature: Tensor) -> None:
        weight = total.weights.get(tap.address, 0)
        if weight == 0:
            return
        so_far = self._totals.get(total.name)
        if so_far is None:
            self._totals[total.name] = widened(feature) * weight
        elif so_far.shape != feature.shape:
            raise TapError(tap, f'has shape {tuple(feature.shape)}, others of {total.name} have {tuple(so_far.shape)}; only '
                           'features of one shape can be summed')
        else:
            so_far.add_(feature, alpha=weight)

    @property
    def order(self) -> List[str]:
        """The taps that were reached, as they came."""
        return list(self._reached)

    @property
    def complete(self) -> bool:
        """Whether every tap has been reached."""
        return len(self._reached) == len(self._taps)

    def overwritten(self) -> List[Tap]:
        """The taps whose tensor an in-place operation has changed since it was recorded."""
        return [self._taps[address] for address, feature in self._features.items()
                if feature._version != self._versions[address]]

    def features(self, inputs: Tensor) -> Dict[str, Tensor]:
        """Feature by address, and sum by name: (B, C, H, W), or (B, C). Tokens become maps.

        Args:
            inputs: the images (B, C, H, W) of the forward.

        Raises:
            DistillationError: for a tap that was not reached, was overwritten in place, or is no feature of the images.
        """
        missing = [tap for tap in self._taps.values() if tap.address not in self._reached]
        if missing:
            raise TapError(
                missing[0], 'was never reached in the forward', hint='A module that its parent does not call, or calls as '
                '`module.forward(...)`, cannot be tapped: tap a module inside or around it (for mmseg heads '
                "'decode_head.conv_seg'). Heads that only training runs (auxiliary_head) cannot be tapped either.")
        changed = self.overwritten()
        if changed:
            raise TapError(changed[0], 'was changed in place after it was recorded',
                           hint="Tap the block's output, or '@preact' of the block.")
        found = {address: self._as_map(self._taps[address], self._features[address], inputs) for address in self._wanted}
        for total in self._sums:
            found[total.name] = self._as_map(self._taps[total.addresses[0]], self._totals[total.name], inputs)
        return found

    @staticmethod
    def _as_map(tap: Tap, feature: Tensor, inputs: Tensor) -> Tensor:
        if feature.dim() and len(feature) != len(inputs):
            raise TapError(tap, f'has {len(feature)} items for {len(inputs)} images; regions and queries cannot be '
                           'compared, features of whole images can')
        if feature.dim() == 3:
            try:
                return tokens_to_map(feature, map_size(inputs))
            except DistillationError as error:
                raise TapError(tap, f'is no map: {error}') from None
        if feature.dim() not in (2, 4):
            raise TapError(tap, f'has shape {tuple(feature.shape)}; a feature is (B, C), (B, L, C) or (B, C, H, W)')
        return feature
