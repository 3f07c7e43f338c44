"""The taps of one model: found once, recorded in as many forwards as are wanted.

Hooks exist only while a forward is recorded, so nothing stays on the model and nothing is held after the step.
"""
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from .activations import ActivationSearch
from .address import TapAddress
from .recording import FeatureSum, Recording, TapsComplete
from .shapes import map_size
from .tap import Tap

Replacements = Mapping[str, Callable[[Tensor], Tensor]]
"""By address, what a model goes on with: a function of the feature as the model has it."""


@dataclass(frozen=True)
class TapInfo:
    """What the dry run found out about a tap.

    Attributes:
        address: the address as the config has it.
        channels: C of the feature (B, C, H, W), or of (B, C).
        size: (H, W) in the dry run, or None for (B, C).
        norm: the batch norm whose output reaches the tap (through an identity at most), if there is one.
        position: its place among the taps of the model, in the order of the forward.
    """
    address: str
    channels: int
    size: Optional[Tuple[int, int]]
    norm: Optional[_BatchNorm]
    position: int


class FeatureTaps:
    """The taps of one model.

    Args:
        model: the student or the teacher; only the modules that are tapped are referred to.
        role: 'student' or 'teacher', for messages.
        addresses: what to tap, beside what :meth:`add` adds.

    Raises:
        DistillationError: for a wrong address.

    Attributes:
        taps: the taps by address.
        info: what :meth:`settle` has found out about each tap, by address.
    """

    def __init__(self, model: nn.Module, role: str, addresses: Sequence[str] = ()):
        self.role = role
        self.taps: Dict[str, Tap] = {}
        self.info: Dict[str, TapInfo] = {}
        self._components: Set[nn.Module] = set()
        self.add(model, addresses)

    def add(self, model: nn.Module, addresses: Sequence[str]) -> None:
        """Adds taps of the same model; one that is there already counts once.

        Raises:
            DistillationError: for a wrong address.
        """
        for address in addresses:
            if address not in self.taps:
                self.taps[address] = Tap(model, address, self.role)
                self._components.add(getattr(model, TapAddress.parse(address).path.split('.')[0]))

    @contextmanager
    def record(self, addresses: Optional[Sequence[str]] = None, stop_when_complete: bool = False,
               sums: Sequence[FeatureSum] = (), replace: Optional[Replacements] = None) -> Iterator[Recording]:
        """Records the forward that runs inside the context; yields a :class:`Recording`.

        Args:
            addresses: which taps; all by default.
            stop_when_complete: end the forward (and the context) when the last tap has been reached.
            sums: weighted sums to make of features while they arrive.
            replace: by address (not ``@in``), what the model goes on with: a function of the feature as the model has it.
        """
        wanted = list(dict.fromkeys(self.taps if addresses is None else addresses))
        summed = [address for total in sums for address in total.addresses]
        taps = [self.taps[address] for address in dict.fromkeys([*wanted, *summed])]
        recording = Recording(taps, self.role, stop_when_complete, wanted, sums, replace or {})
        handles: List[RemovableHandle] = []
        in_place: List[Any] = []
        try:
            for tap in taps:
                handles += tap.hook(recording.add)
                # Out of place instead of a clone: no extra copy, and the tensor before the activation stays what it is.
                activation: Any = tap.activation
                if getattr(activation, 'inplace', False):
                    activation.inplace = False
                    in_place.append(activation)
            with suppress(TapsComplete):
                yield recording
        finally:
            for handle in handles:
                handle.remove()
            for changed in in_place:
                changed.inplace = True

    def settle(self, forward: Callable[[], object], image: Tensor) -> Dict[str, TapInfo]:
        """Finds activations, shapes, in-place hazards and norms by running ``forward`` (a dry run).

        Args:
            forward: runs the model once, in eval mode, without gradients; it is called up to three times.
            image: what it runs on, (1, C, H, W).

        Raises:
            DistillationError: for a tap that is not reached, or is no feature of the image.
        """
        self._find_activations_and_norms(forward)
        recording = self._dry_run(forward)
        for tap in recording.overwritten():
            tap.needs_clone = True
        if recording.overwritten():
            recording = self._dry_run(forward)
        for address, feature in recording.features(image).items():
            size = map_size(feature) if feature.dim() == 4 else None
            self.info[address] = TapInfo(address, feature.shape[1], size, self._norm_of(address, feature.shape[1]),
                                         recording.order.index(address))
        return self.info

    def _dry_run(self, forward: Callable[[], object]) -> Recording:
        # Ends with the component (backbone, neck, ...) of the last tap: late enough to see a tap being overwritten,
        # early enough not to need what heads want (ground truth, proposals).
        handles: List[RemovableHandle] = []
        try:
            with self.record() as recording:
                def finished(*_: Any) -> None:
                    if recording.complete:
                        raise TapsComplete

                handles += [component.register_forward_hook(finished) for component in self._components]
                forward()
        finally:
            for handle in handles:
                handle.remove()
        return recording

    def _norm_of(self, address: str, channels: int) -> Optional[_BatchNorm]:
        norm = self.taps[address].norm
        return norm if norm is not None and norm.affine and norm.num_features == channels else None

    def _find_activations_and_norms(self, forward: Callable[[], object]) -> None:
        sought = [tap for tap in self.taps.values() if tap.port in ('preact', 'end')]
        searches = [ActivationSearch(tap, closing=tap.port == 'end') for tap in sought]
        handles = [handle for search in searches for handle in search.hook()]
        for tap in self.taps.values():
            if tap.port == 'out' and isinstance(tap.module, _BatchNorm):
                tap.norm = tap.module
        if not searches:
            return

        def finished(*_: Any) -> None:
            if all(search.found for search in searches):
                raise TapsComplete

        handles += [tap.module.register_forward_hook(finished) for tap in sought]
        try:
            with suppress(TapsComplete):
                forward()
        finally:
            for handle in handles:
                handle.remove()
        for tap, search in zip(sought, searches):
            found = search.result()
            if found is None:
                continue
            tap.activation, tap.activation_call, tap.norm = found.activation, found.call, found.norm
            tap.channels_last = found.channels_last
