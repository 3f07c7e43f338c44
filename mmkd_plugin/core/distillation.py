"""What hangs on a student while it is distilled: taps, teacher and distillers, in one module ``model.distillation``."""
import inspect
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.dist import is_distributed
from mmengine.logging import MessageHub, print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from ..registry import MODELS
from .distiller import Batch, Distiller
from .errors import DistillationError, check_known_keys, unknown_name
from .gradients import compare_gradients, feature_gradients
from .isolation import get_rng_state
from .recording import Recording
from .rerouting import Rerouting, check_paths
from .taps import FeatureTaps
from .teacher import Teacher, dry_run

# Attributes that are set after the distillers have got their names.
RESERVED_NAMES = ('student_taps', 'training')


@dataclass(frozen=True)
class KeptForward:
    """A training forward, kept for further passes over the same batch (see :attr:`Distillation.keeps_forward`).

    Attributes:
        inputs, data_samples: the batch as the student's preprocessor made it.
        teacher: the teacher's features by address.
        rng: states of the random generators at its start, for the same dropout masks.
    """
    inputs: Tensor
    data_samples: Any
    teacher: Dict[str, Tensor]
    rng: dict


class Distillation(nn.Module):
    """Runs the distillers of one student.

    Its children are the distillers under their names in the config, so ``paramwise_cfg`` addresses all adapters by
    ``distillation`` and those of one distiller by ``distillation.<name>``.

    Args:
        student: the model that is trained; only referred to, not a child.
        teacher: where the other features come from.
        distillers: config of each distiller by name.
        image_shape: (C, H, W) of the image for the dry run.

    Attributes:
        keeps_forward: whether training forwards are kept for :meth:`take_forward`. Searches set it.
        is_suspended: whether ``mode='loss'`` is the plain student's at present; see :meth:`suspended`.
    """

    def __init__(self, student: nn.Module, teacher: Teacher, distillers: Dict[str, dict],
                 image_shape: Tuple[int, int, int]):
        super().__init__()
        self.teacher = teacher
        for name, cfg in distillers.items():
            if hasattr(self, name) or name in RESERVED_NAMES:
                raise DistillationError(f'model.distillers.{name}: the name {name!r} is taken. Accepted: any other.')
            self.add_module(name, build_distiller(name, cfg))
        self._check_rerouting()
        for name, distiller in self.distillers.items():
            distiller.find_taps(student, teacher, name)
        self._check_addresses(student, 'student')
        self._check_addresses(teacher.model, 'teacher')
        image = torch.zeros(1, *image_shape, device=next(student.parameters()).device)
        self.student_taps = FeatureTaps(student, self._addresses('student_taps'), 'student')
        with self._naming_the_distiller():
            dry_run(student, self.student_taps, image)
            teacher_taps = teacher.tap(self._addresses('teacher_taps'), student, image)
        for name, distiller in self.distillers.items():
            distiller.prepare(self.student_taps.info, teacher_taps.info, name)
            print_log(f'model.distillers.{name}: {distiller.describe()}', 'current')
        if not is_distributed() or image.device.type == 'cpu':
            revert_sync_batchnorm(self)  # as mmengine does for the student; SyncBN needs a GPU
        self.to(image.device)
        self._non_finite = NonFiniteWatch()
        self.keeps_forward = self.is_suspended = False
        self._rng_before: Optional[dict] = None
        self._kept: Optional[KeptForward] = None
        self._unreached: Dict[Tuple[str, bool, bool], List[nn.Parameter]] = {}
        self._still: List[nn.Parameter] = []

    @property
    def distillers(self) -> Dict[str, Distiller]:
        return dict(self.named_children())

    def _check_rerouting(self) -> None:
        rerouting = [name for name, distiller in self.distillers.items() if distiller.reroutes]
        if rerouting and len(self.distillers) > 1:
            others = ', '.join(name for name in self.distillers if name != rerouting[0])
            raise DistillationError(f'model.distillers.{rerouting[0]} injects features into the student; what {others} '
                                    'would compare are not the features of one forward. Accepted: this distiller alone.')

    def _check_addresses(self, model: nn.Module, role: str) -> None:
        for name, distiller in self.distillers.items():
            try:
                FeatureTaps(model, getattr(distiller, f'{role}_taps'), role)
            except DistillationError as error:
                raise DistillationError(f'model.distillers.{name}: {error}') from None

    @contextmanager
    def _naming_the_distiller(self):
        """Errors about a tap say whose it is."""
        try:
            yield
        except DistillationError as error:
            owners = [name for name, distiller in self.distillers.items() if str(error).startswith('tap ') and any(
                repr(address) in str(error) for address in (*distiller.student_taps, *distiller.teacher_taps))]
            if not owners:
                raise
            raise DistillationError(f'model.distillers.{owners[0]}: {error}') from None

    def _addresses(self, side: str) -> List[str]:
        return list(dict.fromkeys(address for distiller in self.distillers.values() for address in getattr(distiller, side)))

    def _active_addresses(self, side: str, names: Sequence[str]) -> List[str]:
        iteration = current_iteration()
        return list(dict.fromkeys(address for name in names
                                  for address in getattr(self.distillers[name].taps_at(iteration), side)))

    @contextmanager
    def suspended(self):
        """Inside, ``mode='loss'`` of the model is the plain student's: no teacher, no distillers."""
        self.is_suspended = True
        try:
            yield
        finally:
            self.is_suspended = False

    def start_forward(self) -> None:
        """Called before a training forward that will be distilled."""
        self._rng_before = get_rng_state() if self.keeps_forward else None

    def take_forward(self) -> KeptForward:
        """The last training forward, which is no longer held here afterwards; ``keeps_forward`` was set before it."""
        kept, self._kept = self._kept, None
        if kept is None:
            raise RuntimeError('no forward has been kept: none was distilled since keeps_forward was set')
        return kept

    def weights(self) -> Dict[str, float]:
        """Weight of every distiller that acts at the current iteration."""
        iteration = current_iteration()
        weights = {name: distiller.weight_at(iteration) for name, distiller in self.distillers.items()}
        return {name: weight for name, weight in weights.items() if weight > 0}

    @contextmanager
    def record_student(self, names: Sequence[str], rerouting: Optional[Rerouting] = None, stop_when_complete: bool = False):
        """Context that records the student's features for the named distillers; see :meth:`FeatureTaps.record`."""
        addresses = self._active_addresses('student', names)
        if rerouting is None:
            with self.student_taps.record(addresses, stop_when_complete) as recording:
                yield recording
            return
        with rerouting.applied(self.student_taps) as replace, \
                self.student_taps.record(addresses, replace=replace) as recording:
            yield recording

    def reroute(self, inputs: Tensor, data_samples: Any, weights: Dict[str, float]) -> Optional[Rerouting]:
        """How the coming forward is rerouted: None, unless a distiller that acts does so. The teacher runs here then."""
        names = [name for name in weights if self.distillers[name].reroutes]
        if not names:
            return None
        teacher = self._teacher_features(inputs, data_samples, names)
        rerouting = self.distillers[names[0]].reroute(teacher, Batch(inputs, data_samples, current_iteration()))
        rerouting.teacher = teacher
        return rerouting

    def _teacher_features(self, inputs: Tensor, data_samples: Any, names: Sequence[str]) -> Dict[str, Tensor]:
        sums = [total for name in names for total in self.distillers[name].teacher_sums()]
        return self.teacher.features(inputs, data_samples, self._active_addresses('teacher', names), sums)

    def losses(self, recording: Recording, inputs: Tensor, data_samples: Any, weights: Dict[str, float],
               task_loss: Callable[[], Tensor], rerouting: Optional[Rerouting] = None) -> Dict[str, Tensor]:
        """Weighted losses ``<distiller>.<loss>`` for a batch whose student forward has been recorded.

        Args:
            recording: of that forward.
            inputs, data_samples: the batch as the student's preprocessor left it.
            weights: of the distillers that act.
            task_loss: gives the student's own loss, a scalar, for those that compare gradients with it.
            rerouting: of that forward, if it was rerouted.

        Raises:
            DistillationError: for a feature that cannot be used.
        """
        batch = Batch(inputs, data_samples, current_iteration())
        student = recording.features(inputs)
        self._check_gradients(student)
        teacher = rerouting.teacher if rerouting else self._teacher_features(inputs, data_samples, list(weights))
        if self._rng_before is not None:
            self._kept = KeptForward(inputs, data_samples, teacher, self._rng_before)
        self._non_finite.look(dict(student=student, teacher=teacher), batch.iteration)
        half = _uses_float16(inputs.device.type)
        losses = {}
        with torch.autocast(inputs.device.type, enabled=False):
            unweighted = {name: self.distillers[name](student, teacher, batch) for name in weights}
            logged = self._compare_gradients(unweighted, task_loss, recording, batch.iteration, half)
            for name, weight in weights.items():
                factor = weight * self.distillers[name].scale
                for key, value in unweighted[name].items():
                    losses[f'{name}.{key}'] = value * factor
        return {**losses, **logged}

    def _compare_gradients(self, unweighted: Dict[str, Dict[str, Tensor]], task_loss: Callable[[], Tensor],
                           recording: Recording, iteration: int, half: bool) -> Dict[str, Tensor]:
        """Lets the distillers that want it compare their gradients with the task loss's; returns what they log."""
        asking = {name: distiller for name, distiller in self.distillers.items()
                  if name in unweighted and distiller.compares_gradients(iteration)}
        if not asking or not torch.is_grad_enabled():
            return {}
        wanted = self._active_addresses('student', list(asking))
        task = feature_gradients(task_loss(), {address: recording.edges[address] for address in wanted}, half)
        logged = {}
        for name, distiller in asking.items():
            edges = {address: recording.edges[address] for address in self._active_addresses('student', [name])}
            ours = feature_gradients(sum(unweighted[name].values()), edges, half)
            comparisons = compare_gradients({address: task[address] for address in edges}, ours)
            for key, value in distiller.take_comparison(comparisons, iteration, name).items():
                logged[f'{name}.{key}'] = torch.tensor(value)
        return logged

    def paths_kept_apart(self, student: nn.Module, rerouting: Rerouting, task: Dict[str, Any],
                         ours: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Checks, once per label of a rerouting, that its two paths are apart; see :func:`~.rerouting.check_paths`.

        Returns:
            Under DDP, which wants a gradient for every parameter, a zero that depends on those that neither path reaches.
        """
        if not torch.is_grad_enabled():
            return {}
        case = rerouting.label, bool(rerouting.task_weight), bool(ours)  # a path that is switched off reaches nothing
        if case not in self._unreached:
            self._unreached[case] = check_paths(student, rerouting, task, ours)
            if rerouting.missed_stand_ins:
                print_log(f'{rerouting.label}: later layers of the student see an earlier feature that is not the output of '
                          "a stage searched before. There is nothing of the teacher's to stand in for it: it is the "
                          "student's own, without gradient.", 'current', level=logging.WARNING)
        unreached = self._unreached[case]
        if not unreached or not is_distributed():
            return {}
        # A second forward of the whole student, where there is one, reaches all of it.
        reached = set() if not rerouting.whole_weight else set(student.parameters()) - set(self.parameters())
        self._still += [parameter for parameter in unreached if parameter not in reached]
        return {'distillation.loss_unreached': sum(parameter.sum() for parameter in unreached) * 0}

    def idle_losses(self, weights: Dict[str, float]) -> Dict[str, Tensor]:
        """What stands in for the losses of distillers, or parts of them, that do not act (are not in ``weights``).

        DDP wants a gradient for every adapter in every iteration; without DDP nothing at all is added, so that an
        iteration in which none acts is the plain student's, bit for bit.
        """
        if not is_distributed():
            return {}
        iteration = current_iteration()
        parameters = [parameter for name, distiller in self.distillers.items() for parameter in
                      (distiller.idle_parameters(iteration) if name in weights else distiller.parameters())]
        self._still = list(parameters)
        if not parameters:
            return {}
        return {'distillation.loss_idle': sum(parameter.sum() for parameter in parameters) * 0}

    def forget_idle_gradients(self) -> None:
        """Before a step of the optimiser under DDP: what the last forward did not reach has no gradient.

        The zeros that DDP was given would let weight decay and momentum move it; without DDP nothing does.
        """
        for parameter in self._still:
            parameter.grad = None

    def features(self, model: nn.Module, inputs: Tensor, data_samples,
                 names: Sequence[str]) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """Student's and teacher's features of a batch, without gradient, in the student's present mode.

        Args:
            model: the student this belongs to.
            inputs: (B, C, H, W), preprocessed.
            names: the distillers whose taps are wanted.
        """
        with torch.no_grad(), self.record_student(names, stop_when_complete=True) as recording:
            model(inputs, data_samples, mode='tensor')
        return recording.features(inputs), self._teacher_features(inputs, data_samples, names)

    def raise_if_not_finite(self) -> None:
        """Raises :class:`DistillationError` if a feature has held NaN or infinity; names tap and iteration."""
        self._non_finite.report()

    def _check_gradients(self, student: Dict[str, Tensor]) -> None:
        if not torch.is_grad_enabled():
            return
        for address, feature in student.items():
            if not feature.requires_grad:
                raise DistillationError(f'tap {address!r} of the student carries no gradient: everything before it is '
                                        "frozen, or it lies inside an activation checkpoint (with_cp; tap the block's "
                                        'output then). Distilling it would have no effect.')


def build_distiller(name: str, cfg: dict) -> Distiller:
    """Builds one distiller of a config. Raises :class:`DistillationError` if it is not one, or its arguments are wrong."""
    key = f'model.distillers.{name}'
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise DistillationError(f'{key}: {cfg!r} is not a distiller. Accepted: a dict with a type.')
    if not name.isidentifier():
        raise DistillationError(f'{key}: {name!r} is not a name. Accepted: letters, digits and underscores.')
    if 'loss' in name:
        raise DistillationError(f'{key}: mmengine adds up everything in the log with "loss" in its name, and the name of a '
                                "distiller is part of what it logs. Accepted: a name without 'loss'.")
    kind = cfg['type']
    if isinstance(kind, str) and MMENGINE_MODELS.get(kind) is None:
        known = [f'mmkd.{known}' for known, entry in MODELS.module_dict.items()
                 if isinstance(entry, type) and issubclass(entry, Distiller)]
        raise unknown_name(f'{key}.type', kind, known, 'One of your own needs its scope, as registered.')
    distiller_class = MMENGINE_MODELS.get(kind) if isinstance(kind, str) else kind
    if not (isinstance(distiller_class, type) and issubclass(distiller_class, Distiller)):
        raise DistillationError(f'{key}.type: {kind!r} is not a distiller')
    check_known_keys(key, {name: value for name, value in cfg.items() if name != 'type'}, _arguments(distiller_class))
    try:
        return MMENGINE_MODELS.build(cfg)
    except (TypeError, DistillationError) as error:
        raise DistillationError(f'{key}: {error}') from error


def _arguments(distiller_class: type) -> List[str]:
    """Names of the arguments of a distiller, those it hands on to its base classes included."""
    parameters = [parameter for base in distiller_class.__mro__ if issubclass(base, Distiller) and '__init__' in vars(base)
                  for parameter in inspect.signature(base.__init__).parameters.values()]
    return list(dict.fromkeys(parameter.name for parameter in parameters
                              if parameter.name != 'self' and parameter.kind is not parameter.VAR_KEYWORD))


def _uses_float16(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def current_iteration() -> int:
    """The runner's global iteration (0 outside a Runner): where every schedule takes its position from."""
    hub = MessageHub.get_current_instance()
    return int(hub.get_info('iter', 0) or 0)


def run_length() -> Optional[int]:
    """The runner's number of iterations; None outside a Runner."""
    length = MessageHub.get_current_instance().get_info('max_iters', None)
    return None if length is None else int(length)


class NonFiniteWatch:
    """Remembers, on the device, the first iteration at which each tap held NaN or infinity.

    Reading it costs a host sync, so on a GPU that happens only when :meth:`report` is called; on the CPU, where it costs
    nothing, in every iteration.
    """

    def __init__(self):
        self._first: Dict[Tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def look(self, features: Dict[str, Dict[str, Tensor]], iteration: int) -> None:
        for role, by_address in features.items():
            for address, feature in by_address.items():
                # NaN and infinity both survive the extrema, in every precision, in one pass over the feature.
                low, high = feature.detach().aminmax()
                bad = ~(low.isfinite() & high.isfinite())
                first = self._first.get((role, address))
                if first is None or first.device != bad.device:
                    first = torch.full_like(bad, -1, dtype=torch.long)
                self._first[role, address] = torch.where((first < 0) & bad, iteration, first)
        if next(iter(self._first.values())).device.type == 'cpu':
            self.report()

    def report(self) -> None:
        for (role, address), first in self._first.items():
            if int(first) >= 0:
                raise DistillationError(f'tap {address!r} of the {role} held NaN or infinity in iteration {int(first)}. '
                                        'Lower the learning rate or loss_weight, or check the data of that iteration.')
