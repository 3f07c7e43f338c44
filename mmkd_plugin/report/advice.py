"""What to try next: short rules about what a run has shown, each with the key to change."""
import math
import statistics
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence

from ..distpro.process import Process
from .compare import ALONE, DISTILLED, TEACHER, Comparison, Row
from .processes import name_shares
from .runs import Run
from .scalars import Series

WEAK, STRONG = 0.25, 4.0
"""Gradient ratios beyond which a distiller hardly acts, or drowns the task."""
AGAINST = -0.2
"""The cosine below which a distiller pulls against the task."""
ALL, EVEN = 0.9, 1.2
"""The share of one member of a process, or of one layer of a group, that is nearly everything; and how many times an even
share is about even."""
SCALED_OTHERWISE = ('mmkd.AutoDistiller', 'mmkd.DistProDistiller')
"""Distillers whose losses may have scales of their own."""
FEW = 4
"""Numbers below which a course says nothing."""


@dataclass(frozen=True)
class Advice:
    """One thing to try.

    Attributes:
        key: the key of the config, or the flag, to change.
        seen: what was seen.
        do: what to do.
        run: the name of the run; '' where it is about several.
    """
    key: str
    seen: str
    do: str
    run: str = ''


def advise(comparison: Comparison) -> List[Advice]:
    """What follows from the runs, those of one config once.

    Args:
        comparison: the runs, side by side.
    """
    found = [advice for rule in ABOUT_ALL for advice in rule(comparison)]
    for row in comparison.of(DISTILLED):
        said = set()
        for run in row.runs:
            for advice in (advice for rule in ABOUT_RUNS for advice in rule(run)):
                if advice.key not in said:
                    said.add(advice.key)
                    found.append(Advice(advice.key, advice.seen, advice.do, run.name))
    return found


def _the_result(comparison: Comparison) -> Iterator[Advice]:
    teacher, alone = (next((row for row in comparison.of(role) if row.mean is not None), None) for role in (TEACHER, ALONE))
    for row in comparison.of(DISTILLED):
        if row.mean is None:
            continue
        if teacher is not None and teacher.mean is not None and comparison.better(teacher.mean, row.mean) <= 0:
            yield Advice('model.teacher', f'the teacher ({teacher.mean:.4g}) is no better than {row.label} ({row.mean:.4g})',
                         'take a better teacher, or see that its checkpoint and its classes are those of this data set')
        if alone is not None and alone.mean is not None:
            yield from _against_alone(comparison, row, alone)


def _against_alone(comparison: Comparison, row: Row, alone: Row) -> Iterator[Advice]:
    assert row.mean is not None, 'it has been measured'
    assert alone.mean is not None, 'it has been measured'
    gain = comparison.better(row.mean, alone.mean)
    spread = max(row.spread or 0, alone.spread or 0)
    said = f'the run {row.label} is {abs(gain):.3g} {"better" if gain > 0 else "worse"} than the student alone'
    if gain <= 0:
        yield Advice('model.distillers', said, 'look at the strength of each loss below; try another method, an `end` '
                     'half-way, or a longer training')
    elif min(len(row.last), len(alone.last)) < 2:
        yield Advice('randomness.seed', f'{said}, with one seed of one of them', 'train each with two more seeds before you '
                     'believe it')
    elif gain < 2 * spread:
        yield Advice('randomness.seed', f'{said}, and seeds of one config differ by {spread:.3g} (standard deviation)',
                     'take the difference for chance until more seeds say otherwise')


def _the_time(comparison: Comparison) -> Iterator[Advice]:
    alone = [run.scalars.seconds for row in comparison.of(ALONE) for run in row.runs if run.scalars.seconds]
    for row in comparison.of(DISTILLED) if alone else ():
        times = [run.scalars.seconds for run in row.runs if run.scalars.seconds]
        factor = statistics.fmean(times) / statistics.fmean(alone) if times else 0
        if factor > 2:
            yield Advice('model.teacher.runtime', f'an iteration of {row.label} takes {factor:.2g} times as long as of the '
                         'student alone', "try runtime='auto', or every=2 or fraction=0.5 of the distillers")


def _the_end(run: Run) -> Iterator[Advice]:
    if not run.is_finished:
        yield Advice('--resume', f'the run has ended at iteration {run.scalars.last_step}, before its time',
                     '`mmkd train CONFIG --resume` goes on where it was')
    if run.scalars.train and not run.scalars.validation:
        yield Advice('val_dataloader', 'nothing was validated', 'give val_dataloader, val_evaluator and val_cfg, or leave '
                     '--no-validate out; `mmkd test` measures the last checkpoint')


def _the_loss(run: Run) -> Iterator[Advice]:
    for name, series in run.scalars.train.items():
        if 'loss' in name and len(series.finite) < len(series.values):
            yield Advice('optim_wrapper.clip_grad', f'{name} was not finite {len(series.values) - len(series.finite)} times',
                         'clip gradients, take a smaller learning rate, or a warm-up')
            return


def _the_strength(run: Run) -> Iterator[Advice]:
    measured = run.logged('gradient_ratio')
    for name, block in run.config.distillers.items():
        key = f'model.distillers.{name}'
        ratio = _geometric_mean(measured.get(name, {}).get('gradient_ratio'))
        if ratio is None:
            if block.get('loss_scale', 1.0) != 'auto' and block.get('type') not in SCALED_OTHERWISE:
                yield Advice(f'{key}.loss_scale', 'how strong it is beside the task loss was not measured',
                             "try loss_scale='auto', or look at it with log_gradients=50")
        elif ratio < WEAK:
            yield Advice(f'{key}.loss_weight', f'its gradient was {ratio:.2g} of the task loss\'s in the later half: it '
                         'hardly acts', f"try loss_scale='auto', or a loss_weight {1 / ratio:.2g} times as large")
        elif ratio > STRONG:
            yield Advice(f'{key}.loss_weight', f'its gradient was {ratio:.2g} times the task loss\'s in the later half: it '
                         'drowns the task', f"try loss_scale='auto', or a loss_weight {ratio:.2g} times smaller")
        cosine = _mean(run.logged('gradient_cosine').get(name, {}).get('gradient_cosine'))
        if cosine is not None and cosine < AGAINST:
            yield Advice(f'{key}.end', f'its gradient points away from the task loss\'s (cosine {cosine:.2f} in the later '
                         'half)', 'let it end half-way, or weigh it less')


def _the_scale(run: Run) -> Iterator[Advice]:
    for text in run.log.warnings:
        path, _, member = text.partition(':')[0].partition(', ')
        if 'scale had not settled' in text and member or 'were not settled in this run' in text:
            yield Advice(path, 'the scales of its members had not settled when they were frozen or the run ended',
                         'train for longer, or give a mmkd.DistProDistiller other scale_iters')
        elif 'scale had not settled' in text or 'calibration of loss_scale' in text:
            yield Advice(f'{path}.calibration_iters', "the scale of loss_scale='auto' had not settled when it was frozen or "
                         'the run ended', 'give the number in the log as loss_scale, or other calibration_iters')


def _the_matching(run: Run) -> Iterator[Advice]:
    for name, points in run.log.matching.items():
        if len(points) > 2 and points[-1][1] > points[0][1] * 1.02:
            yield Advice(f'model.distillers.{name.partition(".")[0]}.loss_weight',
                         f'the cost of the matched channels of {name} rose from {points[0][1]:.3g} to {points[-1][1]:.3g}',
                         'the student moves away from the teacher there: weigh it more, or leave the pair out')
            return


def _the_process(run: Run) -> Iterator[Advice]:
    for process in run.processes.values():
        shares = _shares(process)
        if shares is None or len(shares) < 2:
            continue
        name, most = max(shares.items(), key=lambda pair: pair[1])
        if most > ALL:
            yield Advice('search.hook.lr', f'the process ended with {most:.0%} on one of {len(shares)}: {name}',
                         'that one alone is as good a config; or search with a smaller lr, longer, or with several --seeds')
        elif most < EVEN / len(shares):
            yield Advice('search.hook.lr', f'the process ended about as even as it began: none of {len(shares)} has more '
                         f'than {most:.0%}', "equal weights are as good (mode='equal'); or search longer, with a larger lr")


def _shares(process: Process) -> Optional[Dict[str, float]]:
    shares = name_shares(process)
    total = math.fsum(shares.values())
    return {name: value / total for name, value in shares.items()} if total > 0 else None


def _the_aggregation(run: Run) -> Iterator[Advice]:
    for content in run.aggregations.values():
        for group in content['groups']:
            weights = group['weights']
            if len(weights) > 1 and max(weights) > ALL:
                layer = group['teacher'][weights.index(max(weights))]
                yield Advice('search.hook.optimizer.lr', f'group {group["name"]} ended with {max(weights):.0%} on one '
                             f'layer, {layer}', 'a feature loss at that layer alone is as good; or search with a smaller lr')
            elif len(weights) > 1 and max(weights) < EVEN / len(weights):
                yield Advice('search.hook.optimizer.lr', f'the weights of group {group["name"]} are about even still: lr '
                             'times iterations was too small to move them', 'search longer, or with a larger lr')


def _the_loader(run: Run) -> Iterator[Advice]:
    seconds, waiting = run.scalars.seconds, run.scalars.waiting
    if seconds and waiting and waiting > .5 * seconds:
        yield Advice('train_dataloader.num_workers', f'{waiting / seconds:.0%} of the time is spent waiting for images',
                     'take more workers, or persistent_workers=True')


def _the_course(comparison: Comparison) -> Iterator[Advice]:
    """Whether the metric had come to rest."""
    for row in comparison.of(DISTILLED):
        for run in row.runs[:1]:
            series = run.scalars.validation.get(comparison.metric, Series())
            best = run.scalars.best(comparison.metric, comparison.lower)
            if best is None or len(series.finite) < FEW or series.finite != series.values:
                continue
            risen = comparison.better(best[0], series.values[0])
            lost = comparison.better(best[0], series.values[-1])
            late = comparison.better(series.values[-1], series.values[-1 - len(series.values) // 4])
            if risen > 0 and lost > .1 * risen:
                yield Advice('default_hooks.checkpoint.save_best', f'the last validation of {run.name} is {lost:.3g} worse '
                             f'than the best, at iteration {best[1]}', 'the training is too long or too lively at its end: '
                             'let the learning rate fall, or keep the best checkpoint')
            elif lost == 0 and risen > 0 and late > .1 * risen:
                yield Advice('train_cfg', f'the metric of {run.name} was still rising at its end ({late:.3g} in the last '
                             'quarter)', 'train longer: a distilled student gains from it for longer than one alone')


def _later(series: Optional[Series]) -> Sequence[float]:
    return [] if series is None else series.later_half()


def _geometric_mean(series: Optional[Series]) -> Optional[float]:
    values = [value for value in _later(series) if value > 0]
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None


def _mean(series: Optional[Series]) -> Optional[float]:
    values = _later(series)
    return math.fsum(values) / len(values) if values else None


ABOUT_ALL: Sequence[Callable[[Comparison], Iterable[Advice]]] = (_the_result, _the_time, _the_course)
ABOUT_RUNS: Sequence[Callable[[Run], Iterable[Advice]]] = (
    _the_end, _the_loss, _the_strength, _the_scale, _the_matching, _the_process, _the_aggregation, _the_loader)
"""A further rule is one function."""
