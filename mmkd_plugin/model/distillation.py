"""What hangs on a student while it is distilled: taps, teacher and distillers, in one module ``model.distillation``."""
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from mmengine.dist import is_distributed
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.model.utils import revert_sync_batchnorm
from torch import Tensor, nn

from ..distiller import (
    Batch,
    Distiller,
    IdleInPart,
    PairedDistiller,
    SumsTeacherFeatures,
    Surroundings,
    TapNames,
    WrapsForward,
    nothing_left_out,
)
from ..distiller.pairs import check_pair_order, key_of_tap
from ..taps import FeatureSum, FeatureTaps, Recording, Replacements, TapError, TapText, dry_run, laid_out
from ..utils.errors import DistillationError, under
from .ddp import IdleParameters
from .non_finite import NonFiniteWatch
from .step import Step
from .teacher import Teacher
from .teachers import Teachers
from .weighing import Weighing


class Distillation(nn.Module):
    """The distillers of one student, and what they share.

    Its children are the distillers under their names in the config, so ``paramwise_cfg`` addresses all adapters by
    ``distillation`` and those of one distiller by ``distillation.<name>``.

    Args:
        student: the model that is trained; only referred to, not a child.
        teachers: where the other features come from.
        distillers: the distillers by name, not attached to anything yet.
        image_shape: (C, H, W) of the image for the dry run.
        work_dir: the run's work dir, None outside of a Runner.

    Attributes:
        student_taps: all taps of the student.
        idle: what DDP has to be told about.
        non_finite: notices features that are NaN or infinite.
        weighing: what each distiller weighs in a step.
        needed_hooks: configs of hooks that distillers need which no config names; the run gets those that it has not.
        is_suspended: whether ``mode='loss'`` is the plain student's at present; see :meth:`suspended`.

    Raises:
        DistillationError: for whatever does not fit; names the distiller.
    """

    def __init__(self, student: nn.Module, teachers: Teachers, distillers: Mapping[str, Distiller],
                 image_shape: Tuple[int, int, int], work_dir: Optional[Path] = None):
        super().__init__()
        self.teachers = teachers
        self.student_taps = FeatureTaps(student, 'student')
        self.idle, self.non_finite = IdleParameters(), NonFiniteWatch(lambda: self.distillers)
        self.is_suspended = False
        self.needed_hooks: List[Dict[str, Any]] = []
        for name, distiller in distillers.items():
            if hasattr(self, name) or name.startswith('_'):
                raise DistillationError('is taken', path=f'model.distillers.{name}', given=name,
                                        accepted='any other name that begins with a letter')
            self.add_module(name, distiller)
        self._check_that_a_wrapping_one_is_alone()
        self._check_that_a_wrapping_one_takes_whole_batches()
        self.weighing = Weighing(self.distillers)
        self._find_taps(student, work_dir)
        self.weighing.meet()
        image = torch.zeros(1, *image_shape, device=next(student.parameters()).device)
        with self._naming_the_distiller():
            dry_run(student, self.student_taps, image)
            teachers.settle(student, image)
        infos = teachers.info
        for distiller in self.distillers.values():
            with under(distiller.path):
                if isinstance(distiller, PairedDistiller):
                    with under('pairs'):
                        check_pair_order(distiller.pairs, self.student_taps.info, infos)
                distiller.prepare(self.student_taps.info, infos)
            print_log(f'{distiller.path}: {distiller.describe()}', 'current')
        if not is_distributed() or image.device.type == 'cpu':
            revert_sync_batchnorm(self)  # as mmengine does for the student; SyncBN needs a GPU
        self.to(image.device)

    @property
    def teacher(self) -> Teacher:
        """The teacher, where there is one. Raises :class:`DistillationError` where there are several."""
        return self.teachers.only

    @property
    def distillers(self) -> Dict[str, Distiller]:
        """By name, in the order of the config."""
        return {name: child for name, child in self.named_children() if isinstance(child, Distiller)}

    def begin(self, student: BaseModel, batch: Callable[[], Tuple[Tensor, Any]]) -> Step:
        """A training forward begins; see :class:`Step`."""
        return Step(self, student, batch)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Inside, ``mode='loss'`` of the model is the plain student's: no teacher, no distillers."""
        self.is_suspended = True
        try:
            yield
        finally:
            self.is_suspended = False

    def active_taps(self, side: str, names: Sequence[str], iteration: int) -> List[str]:
        """Addresses of the ``'student'`` or the ``'teacher'`` that the named distillers need at an iteration."""
        found: List[str] = []
        for name in names:
            distiller = self.distillers[name]
            if isinstance(distiller, IdleInPart):
                found += getattr(distiller.taps_at(iteration), side)
            else:
                found += getattr(distiller, f'{side}_taps')
        return list(dict.fromkeys(found))

    def needed_features(self, batch: Batch, name: str) -> TapNames:
        """The features that a distiller needs for a batch: taps of both sides, and sums of the teacher's."""
        addresses, sums = self._asked_of_teachers(batch, [name])
        return TapNames(self.active_taps('student', [name], batch.iteration), [*addresses, *(total.name for total in sums)])

    @contextmanager
    def recorded(self, names: Sequence[str], iteration: int, stop_when_complete: bool = False,
                 replace: Optional[Replacements] = None) -> Iterator[Recording]:
        """Records the student's features for the named distillers; see :meth:`FeatureTaps.record`."""
        addresses = self.active_taps('student', names, iteration)
        with self.student_taps.record(addresses, stop_when_complete, replace=replace) as recording:
            yield recording

    def teacher_features(self, batch: Batch, names: Sequence[str]) -> Dict[str, Tensor]:
        """The teachers' features by address, and their sums by name, for the named distillers, without gradient."""
        return self.teachers.features(batch.inputs, batch.data_samples, *self._asked_of_teachers(batch, names))

    def start_teachers(self, batch: Batch, names: Sequence[str]) -> Callable[[], Dict[str, Tensor]]:
        """The same for a training step, before the student's forward: returns what gives the features after it."""
        return self.teachers.start(batch.inputs, batch.data_samples, *self._asked_of_teachers(batch, names))

    def _asked_of_teachers(self, batch: Batch, names: Sequence[str]) -> Tuple[List[str], List[FeatureSum]]:
        summing = [distiller for name in names if isinstance(distiller := self.distillers[name], SumsTeacherFeatures)]
        sums = [total for distiller in summing for total in distiller.teacher_sums()]
        return self.active_taps('teacher', names, batch.iteration), sums

    def features(self, model: nn.Module, batch: Batch, names: Sequence[str]) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """Student's and teacher's features of a batch, without gradient, in the student's present mode.

        Args:
            model: the student that this distillation hangs on.
            batch: the batch, preprocessed.
            names: the distillers whose taps are wanted.
        """
        with nothing_left_out(self.distillers[name] for name in names):
            with torch.no_grad(), self.recorded(names, batch.iteration, stop_when_complete=True) as recording:
                model(batch.inputs, batch.data_samples, mode='tensor')
            student = recording.features(batch.inputs)
            return student, laid_out(self.teacher_features(batch, names), student)

    def _check_that_a_wrapping_one_is_alone(self) -> None:
        wrapping = [name for name, distiller in self.distillers.items()
                    if isinstance(distiller, WrapsForward) and distiller.wraps]
        if wrapping and len(self.distillers) > 1:
            others = ', '.join(name for name in self.distillers if name != wrapping[0])
            raise DistillationError(f"changes the student's forward; what {others} would compare are not the features "
                                    'of one forward', path=f'model.distillers.{wrapping[0]}',
                                    accepted='this distiller alone')

    def _check_that_a_wrapping_one_takes_whole_batches(self) -> None:
        for name, distiller in self.distillers.items():
            if isinstance(distiller, WrapsForward) and distiller.wraps and distiller.options.fraction < 1:
                raise DistillationError("leaves images out, but it changes the student's forward of the whole batch",
                                        path=f'model.distillers.{name}.fraction', given=distiller.options.fraction,
                                        accepted='1')

    def _find_taps(self, student: nn.Module, work_dir: Optional[Path]) -> None:
        surroundings = Surroundings(student, self.teachers.followed, work_dir)
        for distiller in self.distillers.values():
            with under(distiller.path):
                self._tap(student, distiller)  # a wrong address in the config comes before files that are missing
                distiller.find_taps(surroundings)
                self._tap(student, distiller)
        self.teachers.check_that_each_is_needed()

    def _tap(self, student: nn.Module, distiller: Distiller) -> None:
        def tap_student(address: str) -> None:
            TapText('student').read(address)
            self.student_taps.add(student, [address])

        for side, tap in (('student', tap_student), ('teacher', self.teachers.tap)):
            for address in getattr(distiller, f'{side}_taps'):
                with under(key_of_tap(distiller.options, side, address)):
                    tap(address)

    @contextmanager
    def _naming_the_distiller(self) -> Iterator[None]:
        """Errors about a tap say whose it is."""
        try:
            yield
        except TapError as error:
            for distiller in self.distillers.values():
                if error.address in getattr(distiller, f'{error.role}_taps'):
                    error.at(key_of_tap(distiller.options, error.role, error.address)).at(distiller.path)
                    break
            raise
