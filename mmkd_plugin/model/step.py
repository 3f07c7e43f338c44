"""One training forward of a distilled student: begun before it, gone with it."""
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..distiller import (
    Batch,
    ComparesLosses,
    Distiller,
    ForwardWrap,
    IdleInPart,
    KeepsStep,
    KeptStep,
    Losses,
    SeesTaskLoss,
    WeighsOthers,
    WrapsForward,
)
from ..distiller.gradients import GradientComparison, compare_gradients, feature_gradients
from ..distiller.pairs import key_of_tap
from ..taps import Recording, laid_out
from ..utils.errors import DistillationError, shown, under
from ..utils.isolation import get_rng_state
from ..utils.progress import current_iteration
from ..utils.torch_versions import autocast_dtype
from .portions import Portions, View

if TYPE_CHECKING:
    from .distillation import Distillation


class Step:
    """Everything that one forward in ``mode='loss'`` needs to know, in one place.

    Args:
        distillation: what hangs on the student.
        student: the model that is trained.
        batch: gives the images and the data samples; asked only where a distiller acts.

    Attributes:
        weights: by name, the weight of each distiller that acts at this iteration.
        batch: all images of the batch, data samples and iteration; None where no distiller acts.
    """

    def __init__(self, distillation: 'Distillation', student: BaseModel, batch: Callable[[], Tuple[Tensor, Any]]):
        self._distillation, self._student = distillation, student
        self._all = distillation.distillers
        iteration = current_iteration()
        self.weights: Dict[str, float] = {}
        for name in self._all:
            with under(f'model.distillers.{name}'):
                weight = distillation.weighing.weight_at(name, iteration)
            if weight > 0:
                self.weights[name] = weight
        self._zeros = self._idle_losses(iteration)
        self.batch: Optional[Batch] = None
        self._recording: Optional[Recording] = None
        self._teacher: Optional[Dict[str, Tensor]] = None
        self._teacher_later: Callable[[], Dict[str, Tensor]] = dict
        self._wrap: Optional[ForwardWrap] = None
        self._rng: Optional[Dict[str, Any]] = None
        if self.weights:
            self.batch = Batch(*batch(), iteration)
            self._portions = Portions(self.batch, {name: distillation.weighing.fraction(name) for name in self.weights})
            self._teacher_later = distillation.start_teachers(self._portions.largest, list(self.weights))
            self._wrap = self._wrapped(self.batch)
            self._rng = get_rng_state() if self._keeping() else None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The context in which the student's forward runs."""
        if self.batch is None:
            yield
            return
        names, taps = list(self.weights), self._distillation.student_taps
        if self._wrap is None:
            with self._distillation.recorded(names, self.batch.iteration) as self._recording, ExitStack() as watching:
                for keeping in self._keeping():
                    watching.enter_context(keeping.watching(self._complete))
                yield
        else:
            with self._wrap.around(taps) as replace, \
                    self._distillation.recorded(names, self.batch.iteration, replace=replace) as self._recording:
                yield

    def _complete(self) -> bool:
        return self._recording is not None and self._recording.complete

    def losses(self, task: Losses, again: Callable[[], Losses]) -> Losses:
        """The student's own losses and the weighted ones of the distillers, ``<distiller>.<loss>``.

        Args:
            task: the student's own losses in the recorded forward.
            again: runs the student's forward once more, for distillers that wrap it.

        Raises:
            DistillationError: for a feature that cannot be used.
        """
        if self.batch is None:
            return {**task, **self._zeros}
        ours = self._distilled(task, self.batch)
        if self._wrap is not None:
            wrapped = self._wrap.finish(self._student, task, ours, again)
            task = wrapped.task
            # A second forward of the whole student, where there is one, reaches all of it.
            reached = self._own_parameters() if any('loss' in name for name in wrapped.more) else []
            ours.update(self._distillation.idle.add('distillation.loss_unreached', wrapped.unreached, reached))
            ours.update(wrapped.more)
        # Classifiers call their loss `loss`, which would hide the total of that name in the log.
        task = {'student.loss' if name == 'loss' else name: value for name, value in task.items()}
        return {**task, **ours, **self._zeros}

    def _idle_losses(self, iteration: int) -> Dict[str, Tensor]:
        idle: List[nn.Parameter] = []
        for name, distiller in self._all.items():
            if name not in self.weights:
                idle += distiller.parameters()
            elif isinstance(distiller, IdleInPart):
                idle += distiller.idle_parameters(iteration)
        self._distillation.idle.begin()
        return self._distillation.idle.add('distillation.loss_idle', idle)

    def _own_parameters(self) -> List[nn.Parameter]:
        ours = set(self._distillation.parameters())
        return [parameter for parameter in self._student.parameters() if parameter not in ours]

    def _wrapped(self, batch: Batch) -> Optional[ForwardWrap]:
        for name in self.weights:
            distiller = self._all[name]
            if isinstance(distiller, WrapsForward) and distiller.wraps:
                with under(f'model.distillers.{name}'):
                    self._teacher = laid_out(self._teacher_later(), {})  # the student has not run yet
                    return distiller.wrap(self._teacher, batch)
        return None

    def _keeping(self) -> List[KeepsStep]:
        acting = [self._all[name] for name in self.weights]
        return [distiller for distiller in acting if isinstance(distiller, KeepsStep) and distiller.keeps_step]

    def _distilled(self, task: Losses, batch: Batch) -> Dict[str, Tensor]:
        assert self._recording is not None
        student = self._recording.features(batch.inputs)
        self._check_gradients(student)
        self._show_task_loss(task)
        teacher = laid_out(self._teacher_later(), student) if self._teacher is None else self._teacher
        if self._rng is not None:
            for keeping in self._keeping():
                keeping.keep(KeptStep(batch, teacher, self._rng))
        views = self._portions.views(student, teacher, partial(self._distillation.needed_features, batch))
        self._distillation.non_finite.look(dict(student=student, teacher=teacher), batch.iteration)
        device = batch.inputs.device.type
        half = uses_float16(device)
        with torch.autocast(device, enabled=False):
            unweighted = {name: self._losses_of(name, views[name]) for name in self.weights}
            logged = self._compare_gradients(unweighted, task, batch.iteration, half)
            self._compare_losses(task, half)
            weighing = self._distillation.weighing
            weighted = {name: weighing.weighted(name, unweighted[name], weight, batch.iteration)
                        for name, weight in self.weights.items()}
        self._distillation.non_finite.look_at_losses(weighted, batch.iteration)
        losses = {f'{name}.{key}': value for name, found in weighted.items() for key, value in found.items()}
        return {**losses, **logged}

    def _check_gradients(self, student: Dict[str, Tensor]) -> None:
        if not torch.is_grad_enabled():
            return
        for address, feature in student.items():
            if not feature.requires_grad:
                raise DistillationError(f'tap {address!r} of the student carries no gradient: everything before it is '
                                        "frozen, or it lies inside an activation checkpoint (with_cp; tap the block's "
                                        "output then)", path=self._key_of_student_tap(address),
                                        hint='Distilling it would have no effect.')

    def _key_of_student_tap(self, address: str) -> str:
        for distiller in map(self._all.__getitem__, self.weights):
            key = key_of_tap(distiller.options, 'student', address)
            if key:
                return f'{distiller.path}.{key}'
        return 'model.distillers'

    def _show_task_loss(self, task: Losses) -> None:
        for name in self.weights:
            distiller = self._all[name]
            if isinstance(distiller, SeesTaskLoss) and distiller.see_task_loss is not None:
                with under(f'model.distillers.{name}'):
                    distiller.see_task_loss(self._student.parse_losses(task)[0])

    def _losses_of(self, name: str, view: View) -> Dict[str, Tensor]:
        with under(f'model.distillers.{name}'):
            distiller = self._all[name]
            found = self._distillation.weighing.losses(name, view.student, view.teacher, view.batch)
            check_losses(found, may_be_none=_may_have_none(distiller))
        return found

    def _compare_gradients(self, unweighted: Dict[str, Dict[str, Tensor]], task: Losses, iteration: int,
                           half: bool) -> Dict[str, Tensor]:
        """Lets the distillers that want it compare their gradients with the task loss's; returns what they log."""
        asking = [name for name in self.weights if unweighted[name] and self._all[name].strength.compares(iteration)]
        if not asking or not torch.is_grad_enabled() or self._recording is None:
            return {}
        edges = self._recording.edges
        wanted = self._distillation.active_taps('student', asking, iteration)
        total = self._student.parse_losses(task)[0]
        theirs = feature_gradients(total, {address: edges[address] for address in wanted}, half)
        logged = {}
        for name in asking:
            own = {address: edges[address] for address in self._distillation.active_taps('student', [name], iteration)}
            weight, losses = self._compared(name, unweighted[name], iteration)
            summed = list(losses.values())
            ours = feature_gradients(sum(summed[1:], summed[0]), own, half)
            comparisons = compare_gradients(*self._portions.comparable(
                name, {address: theirs[address] for address in own}, ours))
            path = f'model.distillers.{name}'
            with under(path):
                log = self._all[name].strength.take(comparisons, iteration, weight, path)
            logged.update({f'{name}.{key}': torch.tensor(value) for key, value in log.items()})
        return logged

    def _compare_losses(self, task: Losses, half: bool) -> None:
        """Compares single losses with the task loss, for the distillers that want it."""
        for name in self.weights:
            distiller = self._all[name]
            losses = distiller.losses_to_compare() if isinstance(distiller, ComparesLosses) else {}
            if not losses or not torch.is_grad_enabled() or self._recording is None:
                continue
            edges = self._recording.edges
            total = self._student.parse_losses(task)[0]
            theirs = feature_gradients(total, {tap: edges[tap] for _, taps in losses.values() for tap in taps}, half)
            found = {}
            for key, (loss, taps) in losses.items():
                ours = feature_gradients(loss, {tap: edges[tap] for tap in taps}, half)
                compared = compare_gradients(*self._portions.comparable(name, {tap: theirs[tap] for tap in taps}, ours))
                found[key] = sum(compared.values(), GradientComparison(0, 0, 0))
            assert isinstance(distiller, ComparesLosses), 'it has losses to compare'
            with under(f'model.distillers.{name}'):
                distiller.take_comparisons(found)

    def _compared(self, name: str, losses: Dict[str, Tensor], iteration: int) -> Tuple[float, Dict[str, Tensor]]:
        """The losses whose gradient is compared with the task loss's, and the weight that they lack."""
        weighing = self._distillation.weighing
        if weighing.is_weighed(name):  # each of them by another factor
            return 1.0, weighing.weighted(name, losses, self.weights[name], iteration)
        return self.weights[name], losses


def check_losses(found: Any, may_be_none: bool = False) -> None:
    """Looks at what a distiller returns: mmengine adds up what has 'loss' in its name, and logs the rest, whatever it is.

    Args:
        found: what its ``forward`` has returned. Only types and shapes are looked at, so that no device is waited for.
        may_be_none: whether it may have no loss at present.

    Raises:
        DistillationError: if those are no losses, or none has a gradient.
    """
    def refused(problem: str) -> DistillationError:
        return DistillationError(problem, accepted="a dict of scalar tensors whose names contain 'loss', with a gradient")

    if not isinstance(found, dict) or not (found or may_be_none):
        raise refused(f'its forward returns {"an empty dict" if found == {} else f"a {type(found).__name__}"}')
    for name, value in found.items():
        if not isinstance(name, str) or 'loss' not in name:
            raise refused(f'its forward returns something by the name of {shown(name)}')
        if not isinstance(value, Tensor):
            raise refused(f'its forward returns a {type(value).__name__} as {name!r}')
        if value.numel() != 1 or not value.is_floating_point():
            raise refused(f'its forward returns {name!r} with the shape {tuple(value.shape)}, of {value.dtype}')
    if found and torch.is_grad_enabled() and not any(value.requires_grad for value in found.values()):
        raise refused(f'none of {", ".join(found)} depends on a weight: it would teach nothing')


def _may_have_none(distiller: Distiller) -> bool:
    """Whether a distiller may act without a loss of its own."""
    return isinstance(distiller, WeighsOthers) or (isinstance(distiller, WrapsForward) and distiller.wraps)


def uses_float16(device: str) -> bool:
    """Whether autocast is in float16 at present, on a kind of device."""
    return autocast_dtype(device) == torch.float16
