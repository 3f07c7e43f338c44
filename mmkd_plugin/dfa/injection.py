"""Injection: from one tapped feature on, the student's forward uses another feature in its place (DFA, equation 10).

The search asks what an aggregation is worth: it is put into the student in place of the student's own feature, and the rest
of the student, task loss included, judges it. One forward then carries two paths: up to the tapped feature, and from the
injected one. :mod:`~mmkd_plugin.dfa.barrier` keeps them apart, :func:`check_paths` makes sure that they are.
"""
import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..distiller import ForwardWrap, Losses, Wrapped
from ..taps import FeatureTaps, Replacements
from ..utils.errors import DistillationError
from .barrier import Barrier, Output

Case = Tuple[str, bool, bool]
Unreached = Dict[Case, Sequence[nn.Parameter]]
"""What neither path reaches, by the label of the injection and whether each path has a loss: it is looked for once each."""


@dataclass
class Injection(ForwardWrap):
    """What changes in one forward of the student in ``mode='loss'``.

    Attributes:
        label: what it is for, e.g. the name of a layer group; the paths are checked once for each.
        address: student tap whose feature is replaced.
        replace: maps the feature (as the student has it) to what the student goes on with, of the same shape.
        unreached: remembers from step to step what neither path reaches.
        earlier: what later operations see of a tensor that was computed before the replacement.
        stand_ins: for some student taps, what later operations see in place of the output of the tap's module: a function
            from the student's feature at the tap to another feature of that shape.
        task_weight: factor of the student's own losses; at 0 they give no gradient at all.
        whole_weight: factor of the student's own losses in a second forward, without the injection; 0 for none.
        injected: what the student went on with, once it has.
    """
    label: str
    address: str
    replace: Callable[[Tensor], Tensor]
    unreached: Unreached
    earlier: Callable[[Tensor], Tensor] = Tensor.detach
    stand_ins: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    task_weight: float = 1.0
    whole_weight: float = 0.0
    injected: Optional[Tensor] = None
    _barrier: Optional[Barrier] = None

    @contextmanager
    def around(self, taps: FeatureTaps) -> Iterator[Replacements]:
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())  # it is by the graph that earlier and later are told apart
            outputs: List[Output] = []
            for address, make in self.stand_ins.items():
                tap = taps.taps[address]

                def note(module: nn.Module, args: Any, output: Tensor, tap: Any = tap, make: Any = make) -> None:
                    outputs.append((output, lambda: tap.close(make(output))))

                stack.callback(tap.module.register_forward_hook(note).remove)

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

    def finish(self, student: nn.Module, task: Losses, ours: Dict[str, Tensor], again: Callable[[], Losses]) -> Wrapped:
        task = weighed(task, self.task_weight)
        unreached: Sequence[nn.Parameter] = ()
        if torch.is_grad_enabled():
            case = self.label, bool(self.task_weight), bool(ours)  # a path that is switched off reaches nothing
            if case not in self.unreached:
                self.unreached[case] = check_paths(student, self, task, ours)
                self._warn_of_missed_stand_ins()
            unreached = self.unreached[case]
        more: Losses = {}
        if self.whole_weight:
            more = {f'whole.{name}': value for name, value in weighed(again(), self.whole_weight).items()}
        return Wrapped(task, more, unreached)

    def _warn_of_missed_stand_ins(self) -> None:
        if self.stand_ins and self._barrier is not None and self._barrier.cut:
            print_log(f'{self.label}: later layers of the student see an earlier feature that is not the output of a stage '
                      "searched before. There is no feature of the teacher's to take its place: it is the student's own, "
                      'without gradient.', 'current', level=logging.WARNING)


def weighed(losses: Losses, weight: float) -> Losses:
    """Losses times ``weight``; entries that are no losses (accuracies) as they are."""
    if weight == 1:
        return losses
    return {name: _weighed(value, weight) if 'loss' in name else value for name, value in losses.items()}


def _weighed(value: Any, weight: float) -> Any:
    # A function of the module: one that is defined where it is used, and calls itself, keeps all it has seen alive.
    if isinstance(value, (list, tuple)):
        return [_weighed(item, weight) for item in value]
    return value * weight if weight else value.detach() * 0


@dataclass(frozen=True)
class Trace:
    """What losses depend on: nodes of the autograd graph, and leaves."""
    nodes: Set[Any]
    leaves: Set[Tensor]


def trace(losses: Dict[str, Any]) -> Trace:
    """Walks the graph of every loss among ``losses`` (names with ``loss``); computes no gradient."""
    waiting = [value.grad_fn for name, values in losses.items() if 'loss' in name
               for value in (values if isinstance(values, (list, tuple)) else [values]) if value.grad_fn is not None]
    nodes: Set[Any] = set()
    leaves: Set[Tensor] = set()
    while waiting:
        node = waiting.pop()
        if node in nodes:
            continue
        nodes.add(node)
        if hasattr(node, 'variable'):
            leaves.add(node.variable)
        waiting.extend(following for following, _ in node.next_functions if following is not None)
    return Trace(nodes, leaves)


def check_paths(model: nn.Module, injection: 'Injection', task: Dict[str, Any], ours: Dict[str, Any]) -> List[nn.Parameter]:
    """Makes sure that the two paths of a forward with an injection are apart.

    Args:
        model: the student.
        injection: the injection of this forward, which has been run.
        task: the student's own losses: they may reach only what comes after the injection.
        ours: the distiller's losses: they may reach only what comes before.

    Returns:
        The trainable parameters that neither reaches.

    Raises:
        DistillationError: if a parameter gets gradients from both, or the task loss does not depend on the injected feature.
    """
    if injection.injected is None:
        raise DistillationError(f'{injection.label}: the student never reached {injection.address!r}, so nothing could be '
                                'injected there')
    after, before = trace(task), trace(ours)
    if injection.task_weight and injection.injected.grad_fn not in after.nodes:
        raise DistillationError(f"{injection.label}: the student's losses do not depend on the feature that is injected at "
                                f'{injection.address!r}: nothing after it is used for them')
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    both = [name for name, parameter in trainable.items() if parameter in after.leaves and parameter in before.leaves]
    if both:
        raise DistillationError(f'{injection.label}: {both[0]}' + (f' and {len(both) - 1} more' if len(both) > 1 else '')
                                + f' of the student come both before and after {injection.address!r} (weights that are '
                                'shared, or an operation that autograd does not number), so the two paths are not apart')
    return [parameter for parameter in trainable.values()
            if parameter not in after.leaves and parameter not in before.leaves]
