"""Taps: reading features of a model by address, without touching the model.

An address is ``module.path[index]@port``:

* ``backbone.layer3``          the output of a module; a negative number indexes a list (``backbone.layer4.-1``);
* ``neck[0]``                  one item of an output that is a list or tuple;
* ``backbone.layer4@preact``   the input of the last activation inside a module, before that activation;
* ``backbone.layer4.0@end``    what a block ends with, before the activation that closes it; the output where none does
                               (pre-activation networks, linear bottlenecks);
* ``decode_head.conv_seg@in``  the first input of a module.

A feature can be replaced as well as read, and features can be summed up as they arrive: see :meth:`FeatureTaps.record`.

Hooks exist only while a forward is recorded, so nothing stays on the model and nothing is held after the step.
"""
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .activations import ActivationSearch
from .errors import DistillationError, unknown_name
from .recording import FeatureSum, Recording, TapsComplete

PORTS = ('out', 'in', 'preact', 'end')

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

    def hook(self, add: Callable[['Tap', Tensor], Optional[Tensor]]) -> list:
        """Registers what records this tap: calls ``add(tap, feature)``, and goes on with what that returns, if anything.

        Returns the handles.
        """
        if self.port == 'out' or (self.port == 'end' and self.activation is None):
            return [self.module.register_forward_hook(
                lambda module, args, output: self._put(output, add(self, self._select(output))))]
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
                return None
            calls[0] += 1
            if calls[0] != self.activation_call:
                return None
            replacement = add(self, args[0].permute(0, 3, 1, 2) if self.channels_last else args[0])
            if replacement is None:
                return None
            return (replacement.permute(0, 2, 3, 1) if self.channels_last else replacement,)

        return [self.module.register_forward_pre_hook(enter), self.module.register_forward_hook(leave),
                self.activation.register_forward_pre_hook(before_activation)]

    def close(self, feature: Tensor) -> Tensor:
        """What the module returns where ``feature`` is what it has at the tap: it goes through the closing activation."""
        # Past the hooks, which would take this for a call of the model's own.
        return feature if self.activation is None else self.activation.forward(feature)

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

    def _put(self, output, replacement: Optional[Tensor]):
        """``output`` with the tapped feature replaced; None where nothing is."""
        if replacement is None or isinstance(output, Tensor):
            return replacement
        tensors = [number for number, item in enumerate(output) if isinstance(item, Tensor)]
        items = list(output)
        items[tensors[0] if self.index is None else self.index] = replacement
        return tuple(items) if isinstance(output, tuple) else items


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
    def record(self, addresses: Optional[Sequence[str]] = None, stop_when_complete: bool = False,
               sums: Sequence[FeatureSum] = (), replace: Optional[Mapping[str, Callable[[Tensor], Tensor]]] = None):
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
            self.info[address] = TapInfo(address, feature.shape[1], size, self._norm_of(address, feature.shape[1]),
                                         recording.order.index(address))
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
        sought = [tap for tap in self.taps.values() if tap.port in ('preact', 'end')]
        searches = [ActivationSearch(tap.module, str(tap), closing=tap.port == 'end') for tap in sought]
        handles = [handle for search in searches for handle in search.hook()]
        for tap in self.taps.values():
            if tap.port == 'out' and isinstance(tap.module, _BatchNorm):
                tap.norm = tap.module
        if not searches:
            return

        def finished(*_):
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
