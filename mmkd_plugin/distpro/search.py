"""One search step: how the validation loss after a training step depends on the importance, and moving the importance.

The training step is the train loop's own. What it leaves is used: the batch, the teacher's features, and the gradient of
every pathway loss at the student's features. So the exact hypergradient takes one forward-mode pass of the student alone.

Nothing here changes anything but the importance: passes run on copies of buffers, random generators are put back.
"""
import copy
import functools
import logging
from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.func import functional_call

from ..distiller import KeptStep, reentrant_checkpoints_refused
from ..model import DistilledMixin
from ..search import Clipping, StepWatch, naming_samples, seed_generators
from ..taps.shapes import widened
from ..utils.errors import under
from ..utils.isolation import preserved_rng, set_rng_state
from ..utils.records import Whole
from .distiller import DistProDistiller
from .forward_tape import ForwardTape, TapeReplay
from .hypergradient import (
    Named,
    exact_derivatives,
    finite_difference_derivatives,
    global_norm,
    missing_operation,
    tangents,
)
from .member_gradients import MemberGradients
from .moves import Moves
from .weights import importance_gradient

Autocast = Callable[[], ContextManager[Any]]
HYPERGRADIENTS = ('exact', 'finite_difference')


class Snapshot(NamedTuple):
    """theta_t: trained parameters and buffers by name, copied before the training step; and what watches that step."""
    point: Named
    watch: StepWatch


class TrainingStep(NamedTuple):
    """A training step that is judged: where it began, its forward, what its backward left, the context of its forward."""
    before: Snapshot
    kept: KeptStep
    caught: Optional[MemberGradients]
    autocast: Autocast


class ProcessSearch:
    """Moves the importance of one distiller by greedy one-step bi-level optimisation (section 3.3).

    Args:
        model: the distilled student, not wrapped.
        distiller: the model's distiller that is searched, in mode ``'search'``.
        lr, betas: learning rate and betas of the Adam that moves the importance.
        hypergradient: ``'exact'`` or ``'finite_difference'``; the first becomes the second, with a notice, where the
            student has an operation without forward-mode derivative.
        radius: how far from theta_t the finite difference is taken.
        seed: decides what the validation pass draws (dropout).
        window: how many hypergradients are averaged for one move of the importance.

    Attributes:
        moves: how the importance moves, and what its gradients have shown.
        rests: whether the importance stays as it is, while its gradients are looked at.
        loss_scale: the factor on a loss while its gradient is taken, for half precision.
        steps: how many search steps were made, skipped ones included.
        skipped: how many have no hypergradient, because v was 0, or v or a d_p not finite.
    """

    def __init__(self, model: DistilledMixin, distiller: DistProDistiller, lr: float, betas: Sequence[float],
                 hypergradient: str = 'exact', radius: float = 0.01, seed: int = 0, window: int = 1):
        self.model, self.distiller = model, distiller
        self.hypergradient, self.radius, self.seed = hypergradient, radius, seed
        self.steps = self.skipped = 0
        self._passed = self._told = self.rests = False
        self.loss_scale: Callable[[], float] = lambda: 1.0
        self._waiting: Optional[TrainingStep] = None
        self._features, self._losses = _StudentFeatures(model, distiller), _MemberLosses(model, distiller)
        self.moves = Moves(distiller.importance.value, lr, betas, window)

    def snapshot(self, optimiser: torch.optim.Optimizer, clipping: Optional[Clipping] = None) -> Snapshot:
        """theta_t, before the training step.

        Args:
            optimiser: makes the step.
            clipping: how it is clipped.
        """
        moved = {id(parameter) for group in optimiser.param_groups for parameter in group['params']}
        trained = {name: parameter for name, parameter in self.model.named_parameters() if id(parameter) in moved}
        point = {name: tensor.detach().clone() for name, tensor in (*trained.items(), *self.model.named_buffers())}
        ours = {name: parameter for name, parameter in trained.items() if name.startswith('distillation.')}
        self.distiller.keeps_weight_gradients = clipping is not None and not clipping.by_value
        watch = StepWatch(optimiser, {name: parameter for name, parameter in trained.items() if name not in ours}, ours,
                          clipping)
        if not watch.is_exact and not self._told:
            self._told = True
            print_log(f'search: how a step of {type(optimiser).__name__} depends on its gradient is not known here; it is '
                      'taken for the learning rate times the gradient', 'current', level=logging.WARNING)
        return Snapshot(point, watch)

    def step(self, before: Snapshot, kept: KeptStep, data: Any, autocast: Autocast = nullcontext) -> bool:
        """A search step, after the training step: takes the hypergradient and lets Adam move the importance.

        The arguments are the same as for :meth:`gradient`.

        Returns:
            Whether the importance moved.
        """
        return self._move(self.gradient(before, kept, data, autocast))

    def gradient(self, before: Snapshot, kept: KeptStep, data: Any, autocast: Autocast = nullcontext) -> Optional[Tensor]:
        """The hypergradient: of the validation loss after the training step, with respect to the importance (equation 4).

        Args:
            before: theta_t, the weights before the training step.
            kept: the training forward at theta_t.
            data: a validation batch, as the loader gives it.
            autocast: context of the student's forwards.

        Returns:
            (P,), the same on every rank; None where v is 0, or v or a d_p not finite, or no step was made.
        """
        step = TrainingStep(before, kept, self.distiller.take_gradients(), autocast)
        if before.watch.response is None:
            before.watch.forget()
            return None
        with preserved_rng():
            seed_generators(self.seed, self.steps, get_rank())
            gradients = validation_gradient(self.model, data, autocast, self.loss_scale(), self._wanted(step))
        return self._hypergradient(step, gradients)

    def wait(self, before: Snapshot, kept: KeptStep, autocast: Autocast = nullcontext) -> None:
        """After the training step: the next training batch is to judge it, see :meth:`judge`."""
        self._waiting = TrainingStep(before, kept, self.distiller.take_gradients(), autocast)

    @property
    def waits(self) -> bool:
        """Whether a training step waits to be judged."""
        return self._waiting is not None

    def drop(self) -> None:
        """No batch judges the training step that waits, if there is one."""
        self._waiting = None

    def judge(self, loss: Tensor) -> bool:
        """A search step for the training step that waits, in the forward after it: v is the gradient of that one's loss.

        Args:
            loss: the student's own loss of the next training batch, with its graph, which is kept.

        Returns:
            Whether the importance moved.
        """
        step, self._waiting = self._waiting, None
        assert step is not None, 'a step waits'
        if step.before.watch.response is None:
            step.before.watch.forget()
            return self._move(None)
        with torch.autocast(loss.device.type, enabled=False), reentrant_checkpoints_refused(
                "Give the search held-out images: validation='held_out'."):
            gradients = loss_gradients(self.model, loss, self.loss_scale(), self._wanted(step), retain_graph=True)
            return self._move(self._hypergradient(step, gradients))

    def _move(self, gradient: Optional[Tensor]) -> bool:
        self.steps += 1
        if gradient is None:
            self.skipped += 1
            return False
        moved = self.moves.take(gradient, self.rests)
        self.distiller.importance.forget()
        return moved

    def _wanted(self, step: TrainingStep) -> Optional[Set[int]]:
        """The weights that v is needed of, by identity; None for all."""
        response = step.before.watch.response
        if step.caught is None or response is None or response.couples or not self._passed:
            # Until a forward-mode pass has succeeded: finite differences, which may have to take its place, take them all.
            return None
        return step.caught.reached

    def _hypergradient(self, step: TrainingStep, gradients: Named) -> Optional[Tensor]:
        response = step.before.watch.response
        assert response is not None, 'a step has been made'
        direction = response.direction(average_over_ranks(gradients))
        derivatives = self._derivatives(step, direction)
        if derivatives is None:
            return None
        all_reduce(derivatives, 'mean')
        if not bool(derivatives.isfinite().all()):
            return None
        # The optimiser's response is in the direction already.
        importance = self.distiller.importance
        constants = derivatives.new_tensor(self.distiller.constants)
        return self.distiller.scale_at(step.kept.batch.iteration) * importance_gradient(
            importance.value, derivatives * constants, importance.normalisation, importance.bias)

    def features(self, weights: Named, kept: KeptStep, tape: Optional[ForwardTape] = None) -> List[Tensor]:
        """The student's features that members read, of the kept training batch at other weights and buffers.

        Args:
            weights: weights and buffers by name.
            kept: the training forward.
            tape: what it computed at weights of the same values; these may have tangents.
        """
        if tape is None:
            return self._call(self._features, weights, kept)
        own = {name: id(parameter) for name, parameter in self.model.named_parameters()}
        with TapeReplay(tape, {id(value): own[name] for name, value in weights.items() if name in own}):
            return self._call(self._features, weights, kept)

    def losses(self, weights: Named, kept: KeptStep) -> List[Tensor]:
        """l_p of every member, of the kept training batch at other weights and buffers."""
        return self._call(self._losses, weights, kept)

    def _call(self, run: nn.Module, weights: Named, kept: KeptStep) -> List[Tensor]:
        """Runs the student, with the masks of the training forward."""
        # A pass moves running statistics: each has buffers of its own.
        buffers = {name: weights[name].clone() for name, _ in self.model.named_buffers()}
        named = {f'model.{name}': value for name, value in {**weights, **buffers}.items()}
        with preserved_rng():
            set_rng_state(kept.rng)
            outputs: List[Tensor] = functional_call(run, named, (kept,))
        return outputs

    def _derivatives(self, step: TrainingStep, direction: Named) -> Optional[Tensor]:
        if self.hypergradient == 'exact':
            try:
                with step.autocast():
                    return _along(functools.partial(self._exact, step), self._reaching(step, direction))
            except NotImplementedError as error:
                self.hypergradient = 'finite_difference'
                print_log(f'search: {missing_operation(error)} has no forward-mode derivative; the hypergradient is taken '
                          'by finite differences from now on (hypergradient="finite_difference")', 'current')
        # In full precision: half would not resolve the difference.
        return _along(lambda unit: finite_difference_derivatives(
            functools.partial(self.losses, kept=step.kept), step.before.point, unit, self.radius), direction)

    def _reaching(self, step: TrainingStep, direction: Named) -> Named:
        """The part of a direction in which a member's loss changes."""
        if step.caught is None:
            return direction
        reached = step.caught.reached
        return {name: direction[name] for name, parameter in self.model.named_parameters() if name in direction and (
            id(parameter) in reached or name.startswith('distillation.'))}

    def _exact(self, step: TrainingStep, direction: Named) -> Tensor:
        before, kept, caught = step.before, step.kept, step.caught
        if caught is not None:
            moved = tangents(functools.partial(self.features, kept=kept, tape=caught.tape), before.point, direction)
            found = caught.derivatives(len(self.distiller.members), dict(zip(self.distiller.read_taps, moved)), {
                id(parameter): direction[name] for name, parameter in self.model.named_parameters() if name in direction})
            self._passed = True
            if found is not None:
                return found
        # A member that had no part in the backward: its loss has to be taken along.
        return exact_derivatives(functools.partial(self.losses, kept=kept), before.point, direction)

    def state(self) -> Dict[str, Any]:
        """What the distiller's own state (the importance) does not have."""
        return dict(self.moves.state(), steps=self.steps, skipped=self.skipped, hypergradient=self.hypergradient)

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned.

        Raises:
            DistillationError: for a state of the moves that does not fit, or other numbers of steps; takes nothing then.
        """
        with under('skipped'):
            Whole(most=state['steps']).check(state['skipped'])
        self.moves.load(state, state['steps'] - state['skipped'])
        self.steps, self.skipped, self.hypergradient = state['steps'], state['skipped'], state['hypergradient']


class _StudentFeatures(nn.Module):
    """The student's forward to its deepest tap, as a module that ``functional_call`` can call."""

    def __init__(self, model: DistilledMixin, distiller: DistProDistiller):
        super().__init__()
        self.model, self._name = model, distiller.name

    def forward(self, kept: KeptStep) -> List[Tensor]:
        distillation = self.model.distillation
        assert distillation is not None, 'a search has an attached model'
        distiller = distillation.distillers[self._name]
        assert isinstance(distiller, DistProDistiller)
        batch = kept.batch
        with distillation.recorded([self._name, *distiller.weighed], batch.iteration, stop_when_complete=True) as recording:
            self.model(batch.inputs, batch.data_samples, mode='tensor')
        with torch.autocast(batch.inputs.device.type, enabled=False):
            return self.outputs(distiller, recording.features(batch.inputs), kept)

    def outputs(self, distiller: DistProDistiller, features: Dict[str, Tensor], kept: KeptStep) -> List[Tensor]:
        return [widened(features[tap]) for tap in distiller.read_taps]


class _MemberLosses(_StudentFeatures):
    """The same, and from there to the members' losses: the weights of transforms and adapters are taken from theta_t too."""

    def outputs(self, distiller: DistProDistiller, features: Dict[str, Tensor], kept: KeptStep) -> List[Tensor]:
        return distiller.member_losses(features, kept.teacher, kept.batch)


def _along(derivatives: Callable[[Named], Tensor], direction: Named) -> Optional[Tensor]:
    """Directional derivatives by way of the unit vector; None where the direction is 0 or not finite.

    The direction may be so small (a learning rate is in it) that half precision would round the tangents to 0.
    """
    length = float(global_norm(direction)) if direction else 0.0
    if not 0 < length < float('inf'):
        return None
    return derivatives({name: part / length for name, part in direction.items()}) * length


def validation_gradient(model: DistilledMixin, data: Any, autocast: Autocast = nullcontext, loss_scale: float = 1.0,
                        wanted: Optional[Set[int]] = None) -> Named:
    """v: gradient of the plain student's loss on a validation batch at the present weights, by parameter name.

    The model keeps its mode; running statistics, gradients in ``.grad`` and DDP's hooks are left alone. So is what the
    preprocessor remembers (the size that batches are resized to): its copy is used.

    Args:
        model: the distilled student.
        data: a validation batch, as the loader gives it.
        autocast, loss_scale, wanted: see :func:`loss_gradients`.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert model.distillation is not None, 'a search has an attached model'
    with model.distillation.suspended(), autocast(), naming_samples('ProcessSearchHook'):
        data = copy.deepcopy(model.data_preprocessor)(data, True)
        args, kwargs = ((), data) if isinstance(data, dict) else (data, {})
        loss, _ = model.parse_losses(functional_call(model, buffers, tuple(args), {**kwargs, 'mode': 'loss'}))
    return loss_gradients(model, loss, loss_scale, wanted)


def loss_gradients(model: DistilledMixin, loss: Tensor, loss_scale: float = 1.0, wanted: Optional[Set[int]] = None,
                   retain_graph: bool = False) -> Named:
    """The gradient of a loss by the student's trainable weights, by parameter name; 0 of one that it does not depend on.

    Args:
        model: the distilled student.
        loss: a scalar.
        loss_scale: the factor on the loss while its gradient is taken, for half precision.
        wanted: the weights that count, by identity; all by default. What others alone need is not computed.
        retain_graph: whether the graph of the loss is needed afterwards.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters()
                  if parameter.requires_grad and not name.startswith('distillation.')
                  and (wanted is None or id(parameter) in wanted)}
    if not parameters:
        return {}
    gradients = torch.autograd.grad(loss if loss_scale == 1 else loss * loss_scale, list(parameters.values()),
                                    allow_unused=True, retain_graph=retain_graph)
    return {name: torch.zeros_like(parameter) if gradient is None else
            gradient if loss_scale == 1 else gradient / loss_scale
            for (name, parameter), gradient in zip(parameters.items(), gradients)}


def average_over_ranks(tensors: Named) -> Named:
    """The mean of each tensor over all ranks, in one reduction."""
    if get_world_size() == 1 or not tensors:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    all_reduce(flat, 'mean')
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view_as(tensor) for (name, tensor), part in zip(tensors.items(), parts)}
