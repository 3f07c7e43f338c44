"""``mmkd.DistilledModel``: the student exactly as its config says, with losses added in ``mode='loss'``.

An overlay, not a wrapper: what comes out is the student object itself, its class extended by :class:`DistilledMixin`.
Attributes, parameter names, ``isinstance`` and checkpoints stay the student's own.
"""
import inspect
import math
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple

from mmengine.model import BaseModel
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from ..distiller import build_distiller
from ..registry import MODELS
from ..utils.errors import DistillationError, building, under
from ..utils.isolation import preserved_rng
from ..utils.mmrazor import OF_MODELS
from ..utils.options import Block, Either, ListOf, Number, Options, Typed, option
from .distillation import Distillation
from .stand_ins import replaced
from .teachers import build_teachers

MOST_NUMBERS = 3 * 4096 * 4096
STUDENT_KEYS = ('pretrained', 'train_cfg', 'test_cfg')  # inference APIs write these into the model's config
if TYPE_CHECKING:
    from mmengine.model import BaseModel as Base  # every student is one, and brings it along: see `distilled_class`
else:
    Base = object


@dataclass(frozen=True)
class Teachers(Block):
    """The blocks of several teachers, by name."""
    what: str = "a dict with the block of each teacher by its name, e.g. dict(big=dict(config=...), other=dict(config=...))"

    def read(self, value: Any) -> Any:
        for name, block in super().read(value).items():
            if not name.isidentifier() or 'loss' in name:
                raise DistillationError('is no name of a teacher', path=name,
                                        accepted="letters, digits and underscores, without 'loss', which is for losses")
            with under(name):
                Block('a dict: the block of a teacher').read(block)
        return value


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """The ``model`` of a distilled config."""
    elsewhere = OF_MODELS
    student: Dict[str, Any] = option(Typed('a dict with a type: the config of any mmengine BaseModel'),
                                     doc="the student's own config, untouched")
    teacher: Optional[Dict[str, Any]] = option(
        Either(Block('a dict'), (None,)), None, 'see the table of its own keys; None beside `teachers`')
    teachers: Optional[Dict[str, Any]] = option(
        Either(Teachers(), (None,)), None, "several, or one with a name: the block of each by name. A tap of the teacher's "
        "side begins with it, `'big:backbone.layer4'`")
    distillers: Dict[str, Any] = option(Block('a dict with at least one distiller'), doc='config of each distiller by name')
    data_preprocessor: Optional[Dict[str, Any]] = option(
        Either(Block('a dict'), (None,)), None, 'handed on to the student (mmengine passes a top-level one to the model)')
    image_shape: Sequence[int] = option(
        ListOf(Number(above=0, most=8192, whole=True), 'whole numbers > 0 and <= 8192: (channels, height, width)', length=3),
        (3, 128, 128), 'of the image for the dry run that finds the shapes of the taps')

    def check(self, given: Sequence[str]) -> None:
        if not isinstance(self.distillers.get('type', {}), dict):
            raise DistillationError('is a distiller without a name', path='distillers', given=self.distillers,
                                    accepted='a dict with each distiller by its name: distillers=dict(<name>=dict(type=..., '
                                    '...))')
        if self.teachers is not None and self.teacher is not None:
            raise DistillationError('stands beside `teacher`', path='teachers', accepted='one of the two; the other None')
        if self.teachers is None and 'teacher' not in given:
            raise DistillationError('is missing', path='teacher', accepted='a dict; or teachers=dict(<name>=dict(...), ...)')
        for name in ('student', 'teacher' if self.teachers is None else 'teachers', 'distillers'):
            if not getattr(self, name):
                raise DistillationError(path=name, given=getattr(self, name), accepted='a dict that is not empty')
        if math.prod(self.image_shape) > MOST_NUMBERS:
            raise DistillationError('is too large for a dry run', path='image_shape', given=self.image_shape,
                                    accepted=f'an image of at most {MOST_NUMBERS} numbers')


@MODELS.register_module(name='DistilledModel')
def build_distilled_model(**options: Any) -> BaseModel:
    """Builds a student that can be distilled.

    Neither teacher nor distillers are built here: :meth:`DistilledMixin.attach_distillation` does that when training
    starts (``Runner.train`` calls it), so testing needs nothing but the student.

    Args:
        options: see :class:`ModelOptions`; ``pretrained``, ``train_cfg`` and ``test_cfg`` are the student's.

    Returns:
        The student: an instance of its own class.

    Raises:
        DistillationError: for a missing or unknown key.
    """
    others = {key: options.pop(key) for key in STUDENT_KEYS if key in options}
    with under('model'):
        _check_merged(options)
        read = ModelOptions.read(options)
    student_cfg = {**read.student, **others}
    if read.data_preprocessor is not None:
        student_cfg.setdefault('data_preprocessor', read.data_preprocessor)
    with building('model.student'):
        model = MMENGINE_MODELS.build(student_cfg)
    if not isinstance(model, BaseModel):
        raise DistillationError(f'{type(model).__name__} is not an mmengine BaseModel', path='model.student.type',
                                given=read.student['type'], accepted='the type of a whole model: a detector, a segmentor, '
                                'a classifier')
    if hasattr(model, 'distillation'):
        raise DistillationError(f'{type(model).__name__} has an attribute named distillation already', path='model.student')
    student_class: type = type(model)
    model.__class__ = distilled_class(student_class)
    model.register_module('distillation', None)
    teachers = {'': read.teacher} if read.teachers is None else read.teachers
    model.distillation_cfg = dict(teachers=teachers, distillers=read.distillers, image_shape=tuple(read.image_shape))
    return model


def _check_merged(options: Mapping[str, Any]) -> None:
    """Raises :class:`DistillationError` where the model of the base config has been merged into the distilled one."""
    student = options.get('student')
    known = [field.name for field in fields(ModelOptions)]
    merged = [key for key in options if isinstance(student, dict) and key in student and key not in known]
    if merged:
        raise DistillationError('is a key of the student: the model of the base config has been merged into this one',
                                path=merged[0], accepted='no such key',
                                hint="Write _delete_=True beside type='mmkd.DistilledModel'.")


class DistilledMixin(Base):
    """Adds the distillers' losses to a student's ``forward(mode='loss')``.

    Attributes:
        distillation: the :class:`Distillation`, or None before :meth:`attach_distillation`.
        distillation_cfg: what it is built from.
    """
    distillation: Optional[Distillation]
    distillation_cfg: Dict[str, Any]
    student_class: type

    def attach_distillation(self, work_dir: Optional[Path] = None) -> Distillation:
        """Builds teachers, taps and distillers. Call it before the optimiser is built; ``Runner.train`` does.

        Draws no random numbers from the global generators, so the run goes on as the plain student's would.

        Args:
            work_dir: the run's work dir; what a search has written is looked for there.

        Raises:
            DistillationError: for whatever is wrong in the config of a teacher or a distiller.
        """
        if self.distillation is None:
            cfg = self.distillation_cfg
            with preserved_rng():
                # First, so that a mistake in their options is told before the teacher's weights are fetched.
                distillers = {name: build_distiller(name, options) for name, options in cfg['distillers'].items()}
                teachers = build_teachers(cfg['teachers'])
                distillers, hooks = replaced(distillers, self, teachers, cfg['image_shape'], work_dir)
                self.distillation = Distillation(self, teachers, distillers, cfg['image_shape'], work_dir)
                self.distillation.needed_hooks = hooks
            self._register_state_dict_hook(_drop_distillation)
            self.register_load_state_dict_post_hook(_expect_no_distillation)
        return self.distillation

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        plain = partial(super().forward, *args, **kwargs)
        call = _signature(type(self).student_class).bind(self, *args, **kwargs)
        if call.arguments.get('mode') != 'loss':
            return plain()
        if self.distillation is None:
            raise RuntimeError('call model.attach_distillation() before the optimiser is built (Runner.train does it)')
        if self.distillation.is_suspended:
            return plain()
        step = self.distillation.begin(self, lambda: _inputs_and_samples(call))
        with step.recording():
            losses = plain()
        return step.losses(losses, plain)

    def forward_arguments(self, data: Any) -> Tuple[Tensor, Any]:
        """The images and the data samples (or None) in what the data preprocessor returns: a dict, or a list."""
        signature = _signature(type(self).student_class)
        call = signature.bind(self, **data) if isinstance(data, dict) else signature.bind(self, *data)
        return _inputs_and_samples(call)

    def init_weights(self) -> None:
        # Adapters are out of reach while the student initialises itself: an `init_cfg` of the whole model would
        # otherwise draw random numbers for them, and the student's weights would differ from a plain run's.
        distillation = self._modules.pop('distillation')
        try:
            with building(self._key_of_weights):
                super().init_weights()
        finally:
            self._modules['distillation'] = distillation

    def _key_of_weights(self, error: BaseException) -> str:
        """The key of the ``init_cfg`` (``pretrained`` becomes one) that names what an error is about."""
        for name, module in self.named_modules():
            init = getattr(module, 'init_cfg', None)
            checkpoint = init.get('checkpoint') if isinstance(init, dict) else None
            if checkpoint is not None and str(checkpoint) in str(error):
                return '.'.join(part for part in ('model.student', name, 'init_cfg.checkpoint') if part)
        return 'model.student'

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Copies and pickles go through the student's class: the extended one cannot be found by name.
        return _new_distilled, (type(self).student_class,), self.__dict__.copy()


@cache
def distilled_class(student_class: type) -> type:
    """The class of a distilled student: ``student_class`` with :class:`DistilledMixin` before it, under the same name."""
    return type(student_class.__name__, (DistilledMixin, student_class),
                dict(student_class=student_class, __module__=student_class.__module__, __doc__=student_class.__doc__))


@cache
def _signature(student_class: Any) -> inspect.Signature:
    return inspect.signature(student_class.forward)


def _inputs_and_samples(call: inspect.BoundArguments) -> Tuple[Tensor, Any]:
    inputs = list(call.arguments.values())[1]  # after self, whatever the student calls it
    if not isinstance(inputs, Tensor):
        raise DistillationError(f'the student takes a {type(inputs).__name__} as its first input; distillation needs a '
                                'batch of images (B, C, H, W)')
    return inputs, call.arguments.get('data_samples')


def _new_distilled(student_class: type) -> Any:
    cls: Any = distilled_class(student_class)
    return cls.__new__(cls)


def _drop_distillation(model: nn.Module, state_dict: Dict[str, Any], prefix: str, local_metadata: Any) -> None:
    for name in [name for name in state_dict if name.startswith(f'{prefix}distillation.')]:
        del state_dict[name]


def _expect_no_distillation(model: Any, incompatible_keys: Any) -> None:
    own = {f'distillation.{name}' for name in model.distillation.state_dict()} if model.distillation is not None else ()
    incompatible_keys.missing_keys[:] = [name for name in incompatible_keys.missing_keys
                                         if name[max(name.find('distillation.'), 0):] not in own]
