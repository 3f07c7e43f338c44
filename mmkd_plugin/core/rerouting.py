"""Rerouting: from one tapped feature on, the student goes on with another; the two halves of its forward are kept apart.

Searches that ask what a feature is worth inject it into the student and let the rest of the student, task loss included,
judge it. One forward then carries two paths: up to the tapped feature, and from the injected one. Whatever was computed
before the injection and is used after it (skip connections, feature pyramids) would join the two again, so it is cut: later
operations see it detached, or see a stand-in. Which tensors those are is told by autograd's own sequence numbers, so any
model will do.
"""
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Set, Tuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import DistillationError
from .taps import FeatureTaps

Output = Tuple[Tensor, Callable[[], Tensor]]
"""What a module gave, and a function that makes what is seen instead of it."""


@dataclass
class Rerouting:
    """What a distiller changes in one forward of the student in ``mode='loss'``.

    Attributes:
        label: what it is for, e.g. the name of a layer group; the paths are checked once for each.
        address: student tap whose feature is replaced.
        replace: maps the feature (as the student has it) to what the student goes on with, of the same shape.
        earlier: what later operations see of a tensor that was computed before the replacement.
        stand_ins: by student tap, what later operations see of the output of that tap's module instead: a function that
            makes the feature at the tap, of the shape of the one it is given.
        task_weight: factor of the student's own losses; at 0 they give no gradient at all.
        whole_weight: factor of the student's own losses in a second forward, not rerouted; 0 for none.
        teacher: the teacher's features that were made for it.
        injected: what the student went on with, once it has.
    """
    label: str
    address: str
    replace: Callable[[Tensor], Tensor]
    earlier: Callable[[Tensor], Tensor] = Tensor.detach
    stand_ins: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    task_weight: float = 1.0
    whole_weight: float = 0.0
    teacher: Dict[str, Tensor] = field(default_factory=dict)
    injected: Optional[Tensor] = None
    _barrier: Optional['Barrier'] = None

    @property
    def missed_stand_ins(self) -> bool:
        """Whether something earlier was used of which no stand-in was known."""
        return bool(self.stand_ins) and self._barrier is not None and self._barrier.cut

    @contextmanager
    def applied(self, taps: FeatureTaps):
        """Yields the ``replace`` argument of :meth:`FeatureTaps.record`; what is earlier is cut until the context ends."""
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())  # it is by the graph that earlier and later are told apart
            outputs: List[Output] = []
            for address, make in self.stand_ins.items():
                tap = taps.taps[address]
                handle = tap.module.register_forward_hook(
                    lambda module, args, output, tap=tap, make=make: outputs.append(
                        (output, lambda: tap.close(make(output)))))
                stack.callback(handle.remove)

            def go_on_with(feature: Tensor) -> Tensor:
                barrier = self._barrier = Barrier(self.earlier, outputs)
                injected = self.replace(feature)
                if injected.shape != feature.shape:
                    raise DistillationError(
                        f'{self.label}: the feature that is injected at {self.address!r} has shape {tuple(injected.shape)}, '
                        f'what comes next in the student takes {tuple(feature.shape)}')
                self.injected = injected
                stack.enter_context(barrier)
                return injected.to(feature.dtype)

            yield {self.address: go_on_with}

    def weighed(self, losses: Dict[str, Any]) -> Dict[str, Any]:
        """The student's own losses times ``task_weight``; entries that are no losses (accuracies) as they are."""
        if self.task_weight == 1:
            return losses
        return {name: _weighed(value, self.task_weight) if 'loss' in name else value for name, value in losses.items()}


def _weighed(value: Any, weight: float) -> Any:
    # A function of the module: one that is defined where it is used, and calls itself, keeps all it has seen alive.
    if isinstance(value, (list, tuple)):
        return [_weighed(item, weight) for item in value]
    return value * weight if weight else value.detach() * 0


class Barrier(TorchFunctionMode):
    """While active, no operation sees a tensor with a gradient history from before the barrier was made.

    Args:
        earlier: what it sees instead, e.g. ``Tensor.detach``.
        outputs: tensors known one by one, each with a function that makes what is seen instead of that one.

    Attributes:
        cut: whether something earlier was met that is none of ``outputs``.
    """

    def __init__(self, earlier: Callable[[Tensor], Tensor], outputs: Iterable[Output] = ()):
        super().__init__()
        self._earlier = earlier
        self._outputs = list(outputs)
        self._made: Dict[int, Tensor] = {}
        self.cut = False
        # Autograd numbers its nodes as they are made.
        self._number = torch.zeros((), requires_grad=True).view(()).grad_fn._sequence_nr()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*self._later(args), **self._later(kwargs or {}))

    def _later(self, value):
        if isinstance(value, Tensor):
            node = value.grad_fn
            return value if node is None or node._sequence_nr() > self._number else self._instead(value)
        if type(value) in (tuple, list):
            return type(value)(self._later(item) for item in value)
        if type(value) is dict:
            return {key: self._later(item) for key, item in value.items()}
        return value

    def _instead(self, value: Tensor) -> Tensor:
        for output, make in self._outputs:
            if value is output:
                if id(output) not in self._made:
                    made = make().to(output.dtype)
                    if made.shape != output.shape:
                        raise DistillationError(f'what stands in for an earlier stage has shape {tuple(made.shape)}, the '
                                                f'stage itself {tuple(output.shape)}')
                    self._made[id(output)] = made
                return self._made[id(output)]
        self.cut = True
        return self._earlier(value)


@dataclass(frozen=True)
class Trace:
    """What losses depend on: nodes of the autograd graph, and leaves."""
    nodes: Set[Any]
    leaves: Set[Tensor]


def trace(losses: Dict[str, Any]) -> Trace:
    """Walks the graph of every loss among ``losses`` (names with ``loss``); computes no gradient."""
    waiting = [value.grad_fn for name, values in losses.items() if 'loss' in name
               for value in (values if isinstance(values, (list, tuple)) else [values]) if value.grad_fn is not None]
    nodes, leaves = set(), set()
    while waiting:
        node = waiting.pop()
        if node in nodes:
            continue
        nodes.add(node)
        if hasattr(node, 'variable'):
            leaves.add(node.variable)
        waiting.extend(following for following, _ in node.next_functions if following is not None)
    return Trace(nodes, leaves)


def check_paths(model: nn.Module, rerouting: Rerouting, task: Dict[str, Any], ours: Dict[str, Any]) -> List[nn.Parameter]:
    """Makes sure that the two paths of a rerouted forward are apart.

    Args:
        model: the student.
        rerouting: of this forward, after it.
        task: the student's own losses: they may reach only what comes after the injection.
        ours: the distiller's losses: they may reach only what comes before.

    Returns:
        The trainable parameters that neither reaches.

    Raises:
        DistillationError: if a parameter gets gradients from both, or the task loss does not depend on the injected feature.
    """
    if rerouting.injected is None:
        raise DistillationError(f'{rerouting.label}: the student never reached {rerouting.address!r}, so nothing could be '
                                'injected there')
    after, before = trace(task), trace(ours)
    if rerouting.task_weight and rerouting.injected.grad_fn not in after.nodes:
        raise DistillationError(f"{rerouting.label}: the student's losses do not depend on the feature that is injected at "
                                f'{rerouting.address!r}: nothing after it is used for them')
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    both = [name for name, parameter in trainable.items() if parameter in after.leaves and parameter in before.leaves]
    if both:
        raise DistillationError(f'{rerouting.label}: {both[0]}' + (f' and {len(both) - 1} more' if len(both) > 1 else '')
                                + f' of the student come both before and after {rerouting.address!r} (weights that are '
                                'shared, or an operation that autograd does not number), so the two paths are not apart')
    return [parameter for parameter in trainable.values()
            if parameter not in after.leaves and parameter not in before.leaves]
