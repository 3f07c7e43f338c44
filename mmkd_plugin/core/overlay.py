"""``mmkd.DistilledModel``: the student exactly as its config says, with losses added in ``mode='loss'``.

An overlay, not a wrapper: what comes out is the student object itself, its class extended by :class:`DistilledMixin`.
Attributes, parameter names, ``isinstance`` and checkpoints stay the student's own.
"""
import inspect
from dataclasses import replace
from functools import cache
from typing import Optional, Sequence

from mmengine.model import BaseModel
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from ..registry import MODELS
from .distillation import Distillation
from .errors import DistillationError, check_known_keys, check_number
from .isolation import preserved_rng
from .teacher import build_teacher

MODEL_KEYS = ('student', 'teacher', 'distillers', 'data_preprocessor', 'image_shape')
STUDENT_KEYS = ('pretrained', 'train_cfg', 'test_cfg')  # inference APIs write these into the model's config


@MODELS.register_module(name='DistilledModel')
def build_distilled_model(student: Optional[dict] = None, teacher: Optional[dict] = None,
                          distillers: Optional[dict] = None, data_preprocessor: Optional[dict] = None,
                          image_shape: Sequence[int] = (3, 128, 128), **others) -> nn.Module:
    """Builds a student that can be distilled.

    Neither teacher nor distillers are built here: :meth:`DistilledMixin.attach_distillation` does that when training
    starts (``Runner.train`` calls it), so testing needs nothing but the student.

    Args:
        student: config of any mmengine ``BaseModel``.
        teacher: ``config``, ``checkpoint``, ``overrides``, ``allow_random_weights``; see :func:`build_teacher`.
        distillers: config of each distiller by name.
        data_preprocessor: handed on to the student (mmengine passes a top-level one to the model).
        image_shape: (C, H, W) of the image for the dry run that finds the shapes of the taps.
        others: ``pretrained``, ``train_cfg`` and ``test_cfg`` are the student's.

    Returns:
        The student: an instance of its own class.

    Raises:
        DistillationError: for a missing or unknown key.
    """
    check_known_keys('model', others, (*MODEL_KEYS, *STUDENT_KEYS))
    for name, block in (('student', student), ('teacher', teacher), ('distillers', distillers)):
        if not isinstance(block, dict) or not block:
            given = 'is missing' if block is None else f'is {block!r}'
            raise DistillationError(f'model.{name} {given}. Accepted: a dict'
                                    + (' with at least one distiller.' if name == 'distillers' else '.'))
    if not isinstance(image_shape, (list, tuple)) or len(image_shape) != 3:
        raise DistillationError(f'model.image_shape: {image_shape!r}. Accepted: (channels, height, width).')
    for side in image_shape:
        check_number('model.image_shape', side, above=0, whole=True)
    student_cfg = {**student, **others}
    if data_preprocessor is not None:
        student_cfg.setdefault('data_preprocessor', data_preprocessor)
    model = MMENGINE_MODELS.build(student_cfg)
    if not isinstance(model, BaseModel):
        raise DistillationError(f'model.student.type: {type(model).__name__} is not an mmengine BaseModel')
    if hasattr(model, 'distillation'):
        raise DistillationError(f'model.student: {type(model).__name__} has an attribute named distillation already')
    model.__class__ = distilled_class(type(model))
    model.register_module('distillation', None)
    model.distillation_cfg = dict(teacher=teacher, distillers=distillers, image_shape=tuple(image_shape))
    return model


class DistilledMixin:
    """Adds the distillers' losses to a student's ``forward(mode='loss')``.

    Attributes:
        distillation: the :class:`Distillation`, or None before :meth:`attach_distillation`.
        distillation_cfg: what it is built from.
    """
    distillation: Optional[Distillation]
    distillation_cfg: dict

    def attach_distillation(self) -> Distillation:
        """Builds teacher, taps and distillers. Call it before the optimiser is built; ``Runner.train`` does.

        Draws no random numbers from the global generators, so the run goes on as the plain student's would.

        Raises:
            DistillationError: for whatever is wrong in the teacher's or the distillers' config.
        """
        if self.distillation is None:
            cfg = self.distillation_cfg
            with preserved_rng():
                self.distillation = Distillation(self, build_teacher(cfg['teacher']), cfg['distillers'],
                                                 cfg['image_shape'])
            self._register_state_dict_hook(_drop_distillation)
            self.register_load_state_dict_post_hook(_expect_no_distillation)
        return self.distillation

    def forward(self, *args, **kwargs):
        call = _signature(type(self).student_class).bind(self, *args, **kwargs)
        if call.arguments.get('mode') != 'loss':
            return super().forward(*args, **kwargs)
        if self.distillation is None:
            raise RuntimeError('call model.attach_distillation() before the optimiser is built (Runner.train does it)')
        if self.distillation.is_suspended:
            return super().forward(*args, **kwargs)
        weights = self.distillation.weights()
        idle = self.distillation.idle_losses(weights)
        if not weights:
            return {**super().forward(*args, **kwargs), **idle}
        inputs, data_samples = _inputs_and_samples(call)
        rerouting = self.distillation.reroute(inputs, data_samples, weights)
        self.distillation.start_forward()
        with self.distillation.record_student(list(weights), rerouting) as recording:
            losses = super().forward(*args, **kwargs)
        ours = self.distillation.losses(recording, inputs, data_samples, weights,
                                        lambda: self.parse_losses(losses)[0], rerouting)
        if rerouting is not None:
            losses = rerouting.weighed(losses)
            ours.update(self.distillation.paths_kept_apart(self, rerouting, losses, ours))
            if rerouting.whole_weight:
                ours.update({f'whole.{name}': value for name, value in replace(
                    rerouting, task_weight=rerouting.whole_weight).weighed(super().forward(*args, **kwargs)).items()})
        # Classifiers call their loss `loss`, which would hide the total of that name in the log.
        losses = {'student.loss' if name == 'loss' else name: value for name, value in losses.items()}
        return {**losses, **ours, **idle}

    def forward_arguments(self, data) -> tuple:
        """The images and the data samples (or None) in what the data preprocessor returns: a dict, or a list."""
        signature = _signature(type(self).student_class)
        call = signature.bind(self, **data) if isinstance(data, dict) else signature.bind(self, *data)
        return _inputs_and_samples(call)

    def init_weights(self):
        # Adapters are out of reach while the student initialises itself: an `init_cfg` of the whole model would
        # otherwise draw random numbers for them, and the student's weights would differ from a plain run's.
        distillation = self._modules.pop('distillation')
        try:
            super().init_weights()
        finally:
            self._modules['distillation'] = distillation

    def __reduce_ex__(self, protocol):
        # Copies and pickles go through the student's class: the extended one cannot be found by name.
        return _new_distilled, (type(self).student_class,), self.__dict__.copy()


@cache
def distilled_class(student_class: type) -> type:
    """The class of a distilled student: ``student_class`` with :class:`DistilledMixin` before it, under the same name."""
    return type(student_class.__name__, (DistilledMixin, student_class),
                dict(student_class=student_class, __module__=student_class.__module__, __doc__=student_class.__doc__))


@cache
def _signature(student_class: type) -> inspect.Signature:
    return inspect.signature(student_class.forward)


def _inputs_and_samples(call: inspect.BoundArguments) -> tuple:
    inputs = list(call.arguments.values())[1]  # after self, whatever the student calls it
    if not isinstance(inputs, Tensor):
        raise DistillationError(f'the student takes a {type(inputs).__name__} as its first input; distillation needs a '
                                'batch of images (B, C, H, W)')
    return inputs, call.arguments.get('data_samples')


def _new_distilled(student_class: type):
    cls = distilled_class(student_class)
    return cls.__new__(cls)


def _drop_distillation(model, state_dict, prefix, local_metadata):
    for name in [name for name in state_dict if name.startswith(f'{prefix}distillation.')]:
        del state_dict[name]


def _expect_no_distillation(model, incompatible_keys):
    own = {f'distillation.{name}' for name in model.distillation.state_dict()} if model.distillation is not None else ()
    incompatible_keys.missing_keys[:] = [name for name in incompatible_keys.missing_keys
                                         if name[max(name.find('distillation.'), 0):] not in own]
