"""Taps: reading features of a model by address, without touching the model.

An address is ``module.path[index]@port``:

* ``backbone.layer3``          the output of a module; a negative number indexes a list (``backbone.layer4.-1``);
* ``neck[0]``                  one item of an output that is a list or tuple;
* ``backbone.layer4@preact``   the input of the last activation inside a module, before that activation;
* ``decode_head.conv_seg@in``  the first input of a module.

Hooks exist only while a forward is recorded, so nothing stays on the model and nothing is held after the step.
"""
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm

from .activations import ActivationSearch
from .errors import DistillationError, unknown_name
from .shapes import tokens_to_map

PORTS = ('out', 'in', 'preact')

_ADDRESS = re.compile(r'(?P<path>[^\[\]@\s]+)(?:\[(?P<index>-?\d+)\])?(?:@(?P<port>[^\[\]@\s]+))?')


@dataclass(frozen=True)
class TapAddress:
    """A parsed address. ``index`` is None where the output is used whole."""
    path: str
    index: Optional[int]
    port: str

    @classmethod
    def parse(cls, text: str) -> 'TapAddress':
        match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise DistillationError(f'tap {text!r} is not an address. Accepted: "module.path", "module.path[index]", '
                                    f'each with an optional "@port" ({", ".join(PORTS)}).')
        port = match['port'] or 'out'
        if port not in PORTS:
            raise unknown_name(f'port of tap {text!r}', port, PORTS)
        index = None if match['index'] is None else int(match['index'])
        return cls(match['path'], index, port)


def resolve_module(model: nn.Module, path: str, role: str) -> nn.Module:
    """The sub-module of ``model`` at a dotted ``path``; negative numbers count from the end of a list.

    Raises:
        DistillationError: if there is none; names the nearest existing modules.
    """
    module = model
    walked: List[str] = []
    for part in path.split('.'):
        children = dict(module.named_children())
        if part not in children and re.fullmatch(r'-\d+', part) and isinstance(module, (nn.Sequential, nn.ModuleList)):
            part = str(len(children) + int(part))
        if part not in children:
            where = '.'.join(walked)
            names = [name for name, _ in model.named_modules() if name]
            inside = f'{where!r} contains: {", ".join(children) or "no modules"}.' if where else (
                f'The {role} contains: {", ".join(children)}.')
            candidates = sorted(names, key=lambda name: name.count('.') != path.count('.'))
            raise unknown_name(f'tap {path!r} of the {role}', path, candidates, inside)
        walked.append(part)
        module = children[part]
    return module


class TapsComplete(Exception):
    """Stops a forward once every wanted tap has been recorded; never leaves this package."""


@dataclass(frozen=True)
class TapInfo:
    """What the dry run found out about a tap.

    Attributes:
        address: the address as the config has it.
        channels: C of the feature (B, C, H, W), or of (B, C).
        size: (H, W) in the dry run, or None for (B, C).
        norm: the batch norm whose output reaches the tap (through an identity at most), if there is one.
    """
    address: str
    channels: int
    size: Optional[Tuple[int, int]]
    norm: Optional[_BatchNorm]


class Tap:
    """One address in one model. Found once, it knows how to record itself."""

    def __init__(self, model: nn.Module, address: str, role: str):
        parsed = TapAddress.parse(address)
        self.address, self.index, self.port = address, parsed.index, parsed.port
        self.role = role
        self.module = resolve_module(model, parsed.path, role)
        # set by `settle`
        self.activation: Optional[nn.Module] = None
        self.activation_call = 0
        self.channels_last = False
        self.needs_clone = False
        self.norm: Optional[_BatchNorm] = None

    def __str__(self):
        return f'tap {self.address!r} of the {self.role}'

    def hook(self, add: Callable[['Tap', Tensor], None]) -> list:
        """Registers what records this tap: calls ``add(tap, feature)``. Returns the handles."""
        if self.port == 'out':
            return [self.module.register_forward_hook(lambda module, args, output: add(self, self._select(output)))]
        if self.port == 'in':
            return [self.module.register_forward_pre_hook(
                lambda module, args, kwargs: add(self, self._select(next(iter((*args, *kwargs.values()))))),
                with_kwargs=True)]
        return self._hook_activation(add)

    def _hook_activation(self, add) -> list:
        # mm ResNets use one in-place ReLU for every activation of a block: count its calls inside the tapped module.
        # None: not inside. The activation may be shared with modules outside of the tapped one.
        calls: List[Optional[int]] = [None]

        def enter(module, args):
            calls[0] = 0

        def leave(module, args, output):
            calls[0] = None

        def before_activation(module, args):
            if calls[0] is None:
                return
            calls[0] += 1
            if calls[0] == self.activation_call:
                add(self, args[0].permute(0, 3, 1, 2) if self.channels_last else args[0])

        return [self.module.register_forward_pre_hook(enter), self.module.register_forward_hook(leave),
                self.activation.register_forward_pre_hook(before_activation)]

    def _select(self, output):
        if self.index is not None:
            if not isinstance(output, (list, tuple)):
                raise DistillationError(f'{self}: has index [{self.index}], but the output is one {type(output).__name__}')
            if not -len(output) <= self.index < len(output):
                raise DistillationError(f'{self}: index {self.index} is out of range, the output has {len(output)} '
                                        f'items. Accepted: 0 to {len(output) - 1}.')
            output = output[self.index]
        elif isinstance(output, (list, tuple)):
            tensors = [number for number, item in enumerate(output) if isinstance(item, Tensor)]
            if len(tensors) != 1:
                raise DistillationError(f'{self}: the output is a {type(output).__name__} of {len(output)} items; write '
                                        f'which one, e.g. {self.address.split("@")[0]}[{tensors[0] if tensors else 0}]')
            output = output[tensors[0]]
        if not isinstance(output, Tensor):
            raise DistillationError(f'{self}: is a {type(output).__name__}, not a tensor')
        return output


class Recording:
    """The features of one forward, valid until :meth:`FeatureTaps.record` is left.

    Attributes:
        edges: where each feature that has a gradient stands in the autograd graph, by address; holds also where the
            feature was cloned, or is changed in place later.
    """

    def __init__(self, taps: Sequence[Tap], role: str, stop_when_complete: bool):
        self.role = role
        self._taps = taps
        self._stop = stop_when_complete
        self._features: Dict[str, Tensor] = {}
        self._versions: Dict[str, int] = {}
        self.edges: Dict[str, GradientEdge] = {}

    def add(self, tap: Tap, feature: Tensor) -> None:
        if tap.address in self._features:
            raise DistillationError(f'{tap} was reached twice in one forward (a module that is shared, or run again). '
                                    'Tap a module that runs once.')
        if feature.requires_grad:
            self.edges[tap.address] = get_gradient_edge(feature)
        if tap.needs_clone:
            feature = feature.clone()
        self._features[tap.address] = feature
        self._versions[tap.address] = feature._version
        if self._stop and self.complete:
            raise TapsComplete

    @property
    def complete(self) -> bool:
        return len(self._features) == len(self._taps)

    def overwritten(self) -> List[Tap]:
        """The taps whose tensor an in-place operation has changed since it was recorded."""
        return [tap for tap in self._taps
                if tap.address in self._features and self._features[tap.address]._version != self._versions[tap.address]]

    def features(self, inputs: Tensor) -> Dict[str, Tensor]:
        """Feature by address: (B, C, H, W), or (B, C). Tokens become maps.

        Args:
            inputs: the images (B, C, H, W) of the forward.

        Raises:
            DistillationError: for a tap that was not reached, was overwritten in place, or is no feature of the images.
        """
        missing = [tap for tap in self._taps if tap.address not in self._features]
        if missing:
            raise DistillationError(
                f'{missing[0]} was never reached in the forward. A module that its parent does not call, or calls as '
                '`module.forward(...)`, cannot be tapped: tap a module inside or around it (for mmseg heads '
                "'decode_head.conv_seg'). Heads that only training runs (auxiliary_head) cannot be tapped either.")
        changed = self.overwritten()
        if changed:
            raise DistillationError(f'{changed[0]} was changed in place after it was recorded. '
                                    "Tap the block's output, or '@preact' of the block.")
        return {tap.address: self._as_map(tap, inputs) for tap in self._taps}

    def _as_map(self, tap: Tap, inputs: Tensor) -> Tensor:
        feature = self._features[tap.address]
        if feature.dim() and len(feature) != len(inputs):
            raise DistillationError(f'{tap}: has {len(feature)} items for {len(inputs)} images; regions and queries '
                                    'cannot be compared, features of whole images can')
        if feature.dim() == 3:
            try:
                return tokens_to_map(feature, tuple(inputs.shape[2:]))
            except DistillationError as error:
                raise DistillationError(f'{tap}: {error}') from None
        if feature.dim() not in (2, 4):
            raise DistillationError(f'{tap}: has shape {tuple(feature.shape)}; a feature is (B, C), (B, L, C) or '
                                    '(B, C, H, W)')
        return feature


class FeatureTaps:
    """The taps of one model.

    Args:
        model: the student or the teacher.
        addresses: what to tap; repeated addresses count once.
        role: 'student' or 'teacher', for messages.

    Raises:
        DistillationError: for a wrong address.
    """

    def __init__(self, model: nn.Module, addresses: Sequence[str], role: str):
        self.role = role
        self.taps = {address: Tap(model, address, role) for address in dict.fromkeys(addresses)}
        self._components = {getattr(model, TapAddress.parse(address).path.split('.')[0]) for address in self.taps}
        self.info: Dict[str, TapInfo] = {}

    @contextmanager
    def record(self, addresses: Optional[Sequence[str]] = None, stop_when_complete: bool = False):
        """Records the forward that runs inside the context; yields a :class:`Recording`.

        Args:
            addresses: which taps; all by default.
            stop_when_complete: end the forward (and the context) when the last tap has been reached.
        """
        taps = [self.taps[address] for address in dict.fromkeys(addresses)] if addresses else list(self.taps.values())
        recording = Recording(taps, self.role, stop_when_complete)
        handles, in_place = [], []
        try:
            for tap in taps:
                handles += tap.hook(recording.add)
                # Out of place instead of a clone: no extra copy, and the tensor before the activation stays what it is.
                if getattr(tap.activation, 'inplace', False):
                    tap.activation.inplace = False
                    in_place.append(tap.activation)
            with suppress(TapsComplete):
                yield recording
        finally:
            for handle in handles:
                handle.remove()
            for activation in in_place:
                activation.inplace = True

    def settle(self, forward: Callable[[], object], image: Tensor) -> Dict[str, TapInfo]:
        """Finds activations, shapes, in-place hazards and norms by running ``forward`` (a dry run) twice.

        Args:
            forward: runs the model once, in eval mode, without gradients.
            image: what it runs on, (1, C, H, W).
        """
        self._find_activations_and_norms(forward)
        recording = self._dry_run(forward)
        for tap in recording.overwritten():
            tap.needs_clone = True
        if recording.overwritten():
            recording = self._dry_run(forward)
        for address, feature in recording.features(image).items():
            size = tuple(feature.shape[2:]) if feature.dim() == 4 else None
            self.info[address] = TapInfo(address, feature.shape[1], size, self._norm_of(address, feature.shape[1]))
        return self.info

    def _dry_run(self, forward) -> Recording:
        # Ends with the component (backbone, neck, ...) of the last tap: late enough to see a tap being overwritten,
        # early enough not to need what heads want (ground truth, proposals).
        handles = []
        try:
            with self.record() as recording:
                def finished(*_):
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

    def _find_activations_and_norms(self, forward) -> None:
        preact = [tap for tap in self.taps.values() if tap.port == 'preact']
        searches = [ActivationSearch(tap.module, str(tap)) for tap in preact]
        handles = [handle for search in searches for handle in search.hook()]
        for tap in self.taps.values():
            if tap.port == 'out' and isinstance(tap.module, _BatchNorm):
                tap.norm = tap.module
        if not searches:
            return

        def finished(*_):
            if all(search.found for search in searches):
                raise TapsComplete

        handles += [tap.module.register_forward_hook(finished) for tap in preact]
        try:
            with suppress(TapsComplete):
                forward()
        finally:
            for handle in handles:
                handle.remove()
        for tap, search in zip(preact, searches):
            found = search.result()
            tap.activation, tap.activation_call, tap.norm = found.activation, found.call, found.norm
            tap.channels_last = found.channels_last
