"""A teacher that is any ``nn.Module``: of torchvision, of timm, or of a user's file; called as ``module(images)``."""
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence
from zlib import crc32

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..utils.errors import BUILD_ERRORS, DistillationError, building, shortened, under, unknown_name
from ..utils.options import Block, Choice, Either, Kind, ListOf, Number, Text, option
from .teacher import EveryTeacherOptions, Teacher
from .teacher_input import Normalisation
from .teacher_weights import hash_weights, load_teacher_weights

OWN_WEIGHTS = 'module'
PLACES = '"package.module:function", or "path/of/a/file.py:function" (relative to the working directory)'


@dataclass(frozen=True)
class FunctionName(Kind):
    """Where a function stands that makes a module."""
    accepted = PLACES

    def fits(self, value: Any) -> bool:
        place, _, name = value.rpartition(':') if isinstance(value, str) else ('', '', '')
        return bool(place) and '\0' not in place and all(part.isidentifier() for part in name.split('.'))


@dataclass(frozen=True, kw_only=True)
class ModuleTeacherOptions(EveryTeacherOptions):
    """The block of a teacher that is a plain ``nn.Module``."""
    renamed = dict(config='It is for models of mmseg, mmdet and mmpretrain; module is for any other. Give one of the two.',
                   overrides='Write kwargs=dict(...): the arguments of the function.')
    module: str = option(FunctionName(), doc='the function (or class) that makes the model; it is imported and called with '
                         '`kwargs`. The model is called with the images alone')
    kwargs: Optional[Dict[str, Any]] = option(
        Either(Block("a dict: the function's arguments"), (None,)), None, 'arguments of the function')
    checkpoint: Optional[str] = option(
        Either(Text(f'a path or an http(s) address, or {OWN_WEIGHTS!r}'), (None,)), None, 'weights by name, under '
        f"`state_dict` or at the top; must cover every weight. {OWN_WEIGHTS!r}: the function has loaded them itself "
        "(torchvision's `weights`, timm's `pretrained`)")
    mean: Optional[List[float]] = option(
        Either(ListOf(Number(least=0, most=1), 'numbers from 0 to 1, in units of the whole range'), (None,)), None,
        "of images in 0..1, as torchvision and timm have it (the model zoos of mm have 0..255). None: the model sees the "
        "student's input as it is")
    std: Optional[List[float]] = option(
        Either(ListOf(Number(above=0, most=1), 'numbers > 0 and <= 1, in units of the whole range'), (None,)), None,
        'likewise')
    channel_order: str = option(
        Choice(('rgb', 'bgr', 'student')), 'rgb', "which channel the model has first, of images that are loaded as mm does "
        "it, blue first; `mean` and `std` are in that order. 'student': as the student's, whatever that is")

    def check(self, given: Sequence[str]) -> None:
        if (self.mean is None) != (self.std is None):
            missing = 'mean' if self.mean is None else 'std'
            raise DistillationError('is missing: one goes with the other', path=missing, accepted='as many numbers in both')
        if self.mean is None and 'channel_order' in given and self.channel_order != 'student':
            raise DistillationError('has no meaning without mean and std', path='channel_order', given=self.channel_order,
                                    accepted='nothing, or mean and std beside it')


class ModuleTeacher(Teacher):
    """A plain module as a teacher: called with the images, its normalisation given in the config."""
    normalisation_key = ''

    def forward(self, inputs: Tensor, data_samples: Any = None) -> None:
        self.model(inputs)


def build_module_teacher(cfg: Mapping[str, Any], path: str = 'model.teacher') -> ModuleTeacher:
    """Builds a teacher from a block that names a function.

    The function is the user's, named in the user's config: it is imported and called. The checkpoint is read without
    executing anything in it.

    Args:
        cfg: see :class:`ModuleTeacherOptions`.
        path: the key under which the block stands.

    Raises:
        DistillationError: for an unknown key, a function that is not found or does not make a module, no checkpoint, or one
            that does not cover every weight.
    """
    with under(path):
        options = ModuleTeacherOptions.read(cfg)
        if options.checkpoint is None and not options.allow_random_weights:
            raise DistillationError('is missing: a teacher with random weights teaches noise', path='checkpoint',
                                    accepted=f'a path or an http(s) address, or {OWN_WEIGHTS!r} where the function loads '
                                    'the weights itself; for tests, allow_random_weights=True')
        with under('module'):
            function = find_function(options.module)
        model = _made(function, options)
        if options.checkpoint not in (None, OWN_WEIGHTS):
            load_teacher_weights(model, str(options.checkpoint), f'{path}.module')
    print_log(f'{path}: {type(model).__name__} of {options.module}, weights {options.checkpoint or "random"}', 'current')
    if options.mean is None:
        print_log(f"{path}: no mean and std are given; it sees the student's input as it is", 'current')
    text = repr(dict(module=options.module, kwargs=dict(options.kwargs or {})))
    identity = dict(config=text, sha256=hash_weights(model), checkpoint=str(options.checkpoint))
    return ModuleTeacher(model, identity, _normalisation(options), path, options.size_multiple, options.runtime)


def find_function(reference: str) -> Callable[..., Any]:
    """The function, or class, at ``'package.module:function'`` or ``'file.py:function'``. Imports what it stands in.

    Raises:
        DistillationError: if there is none.
    """
    place, _, name = reference.rpartition(':')
    try:
        found: Any = _imported_file(str(Path(place).resolve())) if place.endswith('.py') else _imported(place)
    except BUILD_ERRORS as error:
        if isinstance(error, DistillationError):
            raise
        raise DistillationError(f'cannot be imported ({type(error).__name__}: {shortened(str(error))})',
                                given=reference) from error
    for part in name.split('.'):
        known = [each for each in dir(found) if callable(getattr(found, each, None)) and not each.startswith('_')]
        found = getattr(found, part, None)
        if found is None:
            raise unknown_name('', part, known, problem=f'is not in {place} (of {reference!r})')
    if not callable(found):
        raise DistillationError(f'is a {type(found).__name__}', given=reference, accepted='a function or a class')
    function: Callable[..., Any] = found
    return function


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
            raise  # it is there, and imports something that is not
        raise DistillationError('cannot be imported: there is no such module', given=name, accepted=PLACES) from None


@cache
def _imported_file(path: str) -> Any:
    if not Path(path).is_file():
        raise DistillationError('was not found', given=path, accepted=PLACES)
    name = f'mmkd_user_file_{crc32(path.encode()):08x}'
    spec: Any = spec_from_file_location(name, path)
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _made(function: Callable[..., Any], options: ModuleTeacherOptions) -> nn.Module:
    kwargs = options.kwargs or {}
    with building('kwargs' if kwargs else 'module'):
        model = function(**getattr(kwargs, 'to_dict', lambda: kwargs)())
    if not isinstance(model, nn.Module):
        raise DistillationError(f'makes a {type(model).__name__}, which is no nn.Module', path='module',
                                given=options.module, accepted=PLACES)
    return model


def _normalisation(options: ModuleTeacherOptions) -> Optional[Normalisation]:
    if options.mean is None or options.std is None:
        return None
    swaps = None if options.channel_order == 'student' else options.channel_order == 'rgb'
    mean, std = ([255 * number for number in numbers] for numbers in (options.mean, options.std))
    return Normalisation(torch.tensor(mean), torch.tensor(std), swaps)
