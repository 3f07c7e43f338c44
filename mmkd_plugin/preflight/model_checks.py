"""Checks of the two models and the taps between them, by what the dry run has found out."""
import math
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..baselines import LogitsDistiller
from ..model.teacher_input import Normalisation, normalisation_of
from ..taps import TapAddress, TapInfo
from ..taps.dry_run import dry_sample
from ..utils.isolation import preserved_rng
from .findings import Finding, advice, check, error, warning
from .setup import ComparedPair, Setup

FAR_APART, APART = 4, 2
"""Factors between the resolutions of two features."""
STOCHASTIC = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, _BatchNorm)
STOCHASTIC_NAMES = ('DropPath', 'StochasticDepth', 'DropBlock', 'DropBlock2d')
MUCH_SMALLER = 0.5
MOST_SHOWN = 3


@check('models')
def live_teacher(setup: Setup) -> Iterator[Finding]:
    """Layers of a teacher that are in training mode: dropout, drop path, batch norm."""
    for teacher in setup.distillation.teachers.by_name.values():
        live = [path for path, module in teacher.model.named_modules() if module.training and _is_stochastic(module)]
        if live:
            shown = ', '.join(live[:MOST_SHOWN]) + (', ...' if len(live) > MOST_SHOWN else '')
            yield error(teacher.path, f'{len(live)} layers of the teacher are in training mode ({shown}): its features '
                        'change from call to call', 'Something has called train() on it: a hook, or its own eval()')


@check('models', at_start=False)
def teacher_draws(setup: Setup) -> Iterator[Finding]:
    """A teacher that gives other features when it runs again on the same image: dropout called as a function, noise."""
    assert setup.model is not None
    weight = next(setup.model.parameters())
    image = torch.linspace(-1, 1, math.prod(setup.image_size)).view(1, 1, *setup.image_size)
    image = image.expand(1, setup.model.distillation_cfg['image_shape'][0], -1, -1).to(weight.device)
    for teacher in setup.distillation.teachers.by_name.values():
        with preserved_rng():
            first, again = (teacher.features(image, [dry_sample(image)]) for _ in range(2))
        if not all(torch.equal(first[tap], again[tap]) for tap in first):
            yield error(teacher.path, 'the teacher gives other features when it runs again on the same image: dropout that '
                        'is called as a function, or noise', 'Switch it off where the model is built')


@check('models')
def resolutions_apart(setup: Setup) -> Iterator[Finding]:
    """Pairs of features of very different resolutions."""
    for pair in setup.pairs:
        factor = _factor_apart(setup, pair)
        if factor is None or factor < APART:
            continue
        said = (f'{pair.student.address!r} of the student has {_resolution(pair.student)}, '
                f'{pair.teacher[-1].address!r} of the teacher {_resolution(pair.teacher[-1])} on an image of '
                f'{setup.image_size[0]}x{setup.image_size[1]}')
        make = warning if factor >= FAR_APART else advice
        yield make(pair.key, said, 'Compare stages of one stride: the table of taps has them')


@check('models', at_start=False)
def stages_apart(setup: Setup) -> Iterator[Finding]:
    """Pairs whose addresses are the same but for the number of the stage, in networks of one kind, which count alike."""
    for pair in setup.pairs:
        ours, theirs = _numbered(pair.student.address), _numbered(pair.teacher[-1].address)
        if ours and theirs and ours[0] == theirs[0] and ours[1] != theirs[1] and _one_kind(setup, pair):
            yield advice(pair.key, f'compares {pair.student.address!r} with {pair.teacher[-1].address!r}, another stage of '
                         'the teacher', 'If that is meant, all is well')


@check('models', at_start=False)
def wider_student(setup: Setup) -> Iterator[Finding]:
    """Features of the student that have more channels than the teacher's."""
    for pair in setup.pairs:
        if pair.student.channels > pair.teacher[-1].channels:
            yield advice(pair.key, f'the student has {pair.student.channels} channels there, the teacher '
                         f'{pair.teacher[-1].channels}', 'Is the teacher the larger network?')


@check('models')
def small_teacher(setup: Setup) -> Iterator[Finding]:
    """A teacher with far fewer weights than the student."""
    assert setup.model is not None
    own = sum(weight.numel() for name, weight in setup.model.named_parameters() if not name.startswith('distillation.'))
    for teacher in setup.distillation.teachers.by_name.values():
        theirs = sum(weight.numel() for weight in teacher.model.parameters())
        if theirs < MUCH_SMALLER * own:
            yield warning(teacher.path, f'the teacher has {theirs / 1e6:.2g} million weights, the student {own / 1e6:.2g}',
                          'Have the two been exchanged?')


@check('models')
def normalisation_differs(setup: Setup) -> Iterator[Finding]:
    """Another mean or std than the student's: re-normalised on the way where it is known, else the student's."""
    student = normalisation_of(getattr(setup.model, 'data_preprocessor', None))
    for teacher in setup.distillation.teachers.by_name.values():
        key = f'{teacher.path}.{teacher.normalisation_key}'.rstrip('.')
        theirs = teacher.normalisation
        if theirs is None:
            if _normalises(student):
                yield advice(key, "says nothing of a mean and std: the teacher sees the student's images as they are",
                             'Give them, unless it was trained with the same')
        elif _shown(theirs) != _shown(student):
            yield advice(key, f"the teacher's images have {_shown(theirs)}, the student's {_shown(student)}; its batch is "
                         'normalised anew for the teacher', 'Are the numbers those that the teacher was trained with?')


@check('models')
def classes_differ(setup: Setup) -> Iterator[Finding]:
    """Models for another number of classes."""
    ours = classes_of(setup.model)
    logits = any(issubclass(part.kind, LogitsDistiller) for part in setup.distillers.values())
    for teacher in setup.distillation.teachers.by_name.values():
        theirs = classes_of(teacher.model)
        if ours is None or theirs is None or ours == theirs:
            continue
        make = warning if logits else advice
        yield make(f'{teacher.path}.config', f'the teacher tells {theirs} classes apart, the student {ours}',
                   'Is it trained for the same task? Its features can teach, its scores cannot')


def _is_stochastic(module: nn.Module) -> bool:
    return isinstance(module, STOCHASTIC) or type(module).__name__ in STOCHASTIC_NAMES


def _factor_apart(setup: Setup, pair: ComparedPair) -> Optional[float]:
    """By what factor the resolutions of a pair differ; None where one of them has none."""
    ours, theirs = pair.student.size, pair.teacher[-1].size
    if ours is None or theirs is None or min(*ours, *theirs) < 2:
        return None  # a vector, or pooled
    factors = [our / their for our, their in zip(ours, theirs)]
    return max(max(factor, 1 / factor) for factor in factors)


def _resolution(info: TapInfo) -> str:
    return 'no resolution' if info.size is None else f'{info.size[0]}x{info.size[1]}'


def _one_kind(setup: Setup, pair: ComparedPair) -> bool:
    """Whether the parts of the two models that a pair compares (their backbones, say) are of one class."""
    ours, theirs = TapAddress.parse(pair.student.address), TapAddress.parse(pair.teacher[-1].address)
    models = setup.model, setup.distillation.teachers.by_name[theirs.teacher].model
    one, other = (type(getattr(model, address.path.split('.')[0])) for model, address in zip(models, (ours, theirs)))
    return one is other


def _numbered(address: str) -> Optional[Tuple[str, str]]:
    """The path of a stage without its number, and the number; None for other addresses."""
    match = re.fullmatch(r'(.*?(?:layer|stage|stages\.|layers\.|blocks\.))(\d+)', TapAddress.parse(address).path)
    return None if match is None else (match[1], match[2])


def _normalises(normalisation: Normalisation) -> bool:
    return bool((normalisation.mean != 0).any() or (normalisation.std != 1).any())


def _shown(normalisation: Normalisation) -> str:
    """Mean and std in the order of loaded channels, blue first."""
    def listed(values: Any) -> List[float]:
        numbers = [round(value, 3) for value in values.tolist()]
        return numbers[::-1] if normalisation.swaps else numbers

    return f'mean {listed(normalisation.mean)} and std {listed(normalisation.std)}'


def classes_of(model: Any) -> Optional[int]:
    """How many classes a model tells apart, by the first head that says so."""
    heads: Dict[str, Any] = {name: child for name, child in model.named_children() if name.endswith('head')}
    for head in heads.values():
        for module in head.modules():
            number = getattr(module, 'num_classes', None)
            if isinstance(number, int) and number > 0:
                return number
    return None
