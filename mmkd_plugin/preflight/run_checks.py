"""Checks of what a few iterations have shown: gradients, times, and how good the teachers are."""
import math
from typing import Iterator, Optional, Tuple

from ..utils.errors import shown
from .findings import Finding, advice, check, error, warning
from .measured import Measured, TeacherScore
from .model_checks import classes_of
from .setup import Setup, listed_pairs

HARDLY_FELT, DROWNING = 0.02, 20.0
"""A distiller's gradient as a share of the task loss's, at its taps."""
AGAINST = -0.5
COSTLY = 1.0
"""What distillation adds to an iteration, as a share of one without it."""
RATES = ('accuracy/top1', 'mIoU', 'mAcc', 'aAcc')
"""Metrics in per cent that guessing brings to 100 / classes; the first that there is counts."""
PRECISIONS = ('coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'bbox_mAP', 'mAP')
"""Metrics from 0 to 1 that guessing leaves at 0."""
ABOVE_CHANCE, LEAST_PRECISION = 0.1, 0.02
FEWEST_IMAGES = 16
"""A smaller sample says nothing."""


@check('run')
def teacher_near_chance(setup: Setup) -> Iterator[Finding]:
    """A teacher that is hardly better than guessing, on images as the student's pipeline makes them."""
    for score in _measured(setup).scores:
        found = chance_of(score)
        if found is None or score.images < FEWEST_IMAGES:
            continue
        name, value, least = found
        if value < least:
            yield error(f'{score.key}.checkpoint', f'THE TEACHER IS HARDLY BETTER THAN GUESSING: {name} {value:.4g} on '
                        f'{score.images} validation images', 'Is it the checkpoint of this task, with its classes in the '
                        'same order, and the normalisation and the channel order it was trained with?')


@check('run')
def weak_or_strong(setup: Setup) -> Iterator[Finding]:
    """A distiller whose gradient is hardly felt beside the task loss's, or drowns it."""
    measured = _measured(setup)
    for name, part in setup.distillers.items():
        ratio, options = measured.ratio(name), part.options
        if ratio is None or options.loss_scale == 'auto' or HARDLY_FELT <= ratio <= DROWNING:
            continue
        said = 'it is hardly felt' if ratio < HARDLY_FELT else 'the task loss is drowned'
        alike = f'{options.loss_weight / ratio:.1g}'
        yield warning(f'{part.key}.loss_weight', f"its gradient at the taps is {ratio:.2g} of the task loss's in the first "
                      f'iterations: {said}', f"loss_scale='auto' finds the scale; loss_weight={alike} would make both alike")


@check('run')
def against_the_task(setup: Setup) -> Iterator[Finding]:
    """A distiller that pulls against the task loss."""
    measured = _measured(setup)
    for name, part in setup.distillers.items():
        cosine = measured.cosine(name)
        if cosine is not None and cosine < AGAINST:
            yield advice(f'{part.key}.{listed_pairs(part.options)[0]}', "its gradient points against the task loss's "
                         f'(cosine {cosine:.2f})', 'Are these the features of the same stages?')


@check('run')
def no_gradient(setup: Setup) -> Iterator[Finding]:
    """A distiller that acts, and pulls at nothing."""
    measured = _measured(setup)
    for name, part in setup.distillers.items():
        if name in measured.compared and part.options.loss_weight > 0 and not measured.ratios.get(name):
            yield warning(part.key, 'in each iteration that was looked at a gradient at its taps was 0 or not finite: the '
                          'distiller, or the task loss, does not reach them', 'Tap a feature that both reach')


@check('run')
def losses_not_finite(setup: Setup) -> Iterator[Finding]:
    """Losses that are NaN or infinite."""
    for name, values in _measured(setup).losses.items():
        if not all(map(math.isfinite, values)):
            yield error('optim_wrapper', f'{name} is {shown(values[-1])} after {len(values)} iterations', 'A smaller '
                        'learning rate, warm-up, or clipping; is it finite without distillation?')


@check('run')
def costly_teacher(setup: Setup) -> Iterator[Finding]:
    """Distillation that takes more time than the training itself."""
    measured = _measured(setup)
    overhead, seconds = measured.overhead, measured.seconds
    if overhead is not None and seconds is not None and overhead > COSTLY and not setup.searches:
        yield advice('model.teacher.runtime', f'an iteration takes {seconds["distilled"]:.3g} s, {overhead + 1:.1f} times '
                     f'one of the student alone ({seconds["plain"]:.3g} s)', "runtime='auto' measures how the teacher runs "
                     'fastest; of a distiller that is in no pool, every=2 lets it run in each second iteration, '
                     'fraction=0.5 on half of each batch')


@check('run')
def classes_of_the_data(setup: Setup) -> Iterator[Finding]:
    """A head that has fewer classes than the data."""
    ours, theirs = classes_of(setup.model), _measured(setup).classes_of_data
    if ours and theirs and theirs > ours:
        yield error('model.student', f'has {ours} classes, the training set {theirs}', "Set num_classes in its head, and in "
                    "the teacher's")


def chance_of(score: TeacherScore) -> Optional[Tuple[str, float, float]]:
    """The metric that tells how good a teacher is, its value, and what it has to be at least; None where none is known.

    In per cent: a tenth of the way from 100 / classes to 100.
    """
    for name in RATES:
        if name in score.metrics and score.classes:
            chance = 100 / score.classes
            return name, score.metrics[name], chance + ABOVE_CHANCE * (100 - chance)
    for name in PRECISIONS:
        if name in score.metrics:
            return name, score.metrics[name], LEAST_PRECISION
    return None


def _measured(setup: Setup) -> Measured:
    assert setup.measured is not None
    return setup.measured
