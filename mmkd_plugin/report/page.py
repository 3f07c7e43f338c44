"""The report of a run, or of several side by side: one HTML page that needs nothing else."""
import datetime
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..distpro.process import Process
from ..utils.errors import shortened
from ..utils.files import write_whole
from ..version import __version__
from .advice import advise
from .aggregation import draw_course, draw_weights
from .compare import ALONE, DISTILLED, PLAIN, TEACHER, Comparison, Row, differing_keys
from .curves import COLOURS, Line, Plot, draw_lines, drawn_by
from .examples import Examples, make_examples
from .processes import draw_process
from .runs import Run
from .scalars import Series, summed

TEMPLATE = 'page.html'
COLOUR_OF = {TEACHER: '#8a8f98', ALONE: '#d9772b', DISTILLED: '#3a7bd5', PLAIN: '#8d62c9'}
MOST_DIFFERENCES, LONGEST_CONFIG = 40, 200_000
EVIDENCE = ('entropy', 'agreement')
SEARCHED = (*EVIDENCE, 'skipped', 'gamma_st')
"""What searches log beside the weights."""
MANY_RUNS = 3
"""So many runs have their sections folded."""


@dataclass(frozen=True)
class Card:
    """A number at the top of the page."""
    name: str
    value: str
    below: str = ''


@dataclass(frozen=True)
class Section:
    """What the page says about one run.

    Attributes:
        run: the run.
        role: what it is beside the others.
        colour: that of its row.
        plots: the pictures, by heading.
        facts: names and values: time, memory, length, seed, checkpoint, teacher.
        config: the text of its config.
    """
    run: Run
    role: str
    colour: str
    plots: Dict[str, List[Plot]] = field(default_factory=dict)
    facts: Dict[str, str] = field(default_factory=dict)
    config: str = ''


def write_report(comparison: Comparison, file: Path, pictures: int) -> None:
    """Writes the page.

    Args:
        comparison: the runs.
        file: the page.
        pictures: how many example images; 0 for none.

    Raises:
        DistillationError: if it cannot be written.
    """
    write_whole(file, page(comparison, make_examples(comparison, pictures)))


def page(comparison: Comparison, examples: Examples) -> str:
    """The page as text. Whatever comes from files is escaped.

    Args:
        comparison: the runs.
        examples: example pictures.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, percent=percent, drawn=Markup)
    runs, colours = comparison.runs, _row_colours(comparison)
    rows = [*zip(comparison.rows, colours)]
    sections = [_section(run, row.role, colour) for row, colour in rows[::-1] for run in row.runs]
    return environment.get_template(TEMPLATE).render(
        style=Markup((Path(__file__).parent / 'page.css').read_text()), title=_title(comparison), comparison=comparison,
        cards=_cards(comparison), colours=COLOUR_OF, row_colours=colours, overview=_overview(comparison),
        examples=examples, sections=sections, advice=advise(comparison), costs=costs, folded=len(sections) > MANY_RUNS,
        differences=list(_differences(comparison).items()), compared=[row.label for row in _compared(comparison)],
        missing=[(run.name, text) for run in runs for text in run.missing], version=__version__,
        made=datetime.datetime.now().astimezone().strftime('%Y-%m-%d %H:%M'))


def number(value: Optional[float], digits: int = 4) -> str:
    """A number for a reader; a dash for none."""
    return '–' if value is None else f'{value:.{digits}g}'


def percent(value: Optional[float]) -> str:
    """A part of a whole; a dash for none."""
    return '–' if value is None else f'{100 * value:.0f} %'


def _title(comparison: Comparison) -> str:
    rows = [row for row in comparison.rows if row.role in (DISTILLED, PLAIN)] or comparison.rows
    return shortened(', '.join(row.label for row in rows if row.runs), 120)


def _cards(comparison: Comparison) -> List[Card]:
    """Of one distilled config the results; what all runs cost is in the table."""
    found = []
    for role in (TEACHER, ALONE, DISTILLED):
        rows = [row for row in comparison.of(role) if row.mean is not None]
        if len(rows) == 1:
            row = rows[0]
            where = ' in the test' if row.by_test else ''
            below = f'± {number(row.spread, 2)}, {len(row.compared)} seeds' if row.spread is not None else comparison.metric
            found.append(Card(role, number(row.mean), below + where))
    distilled = comparison.of(DISTILLED)
    if len(distilled) == 1 and distilled[0].gap is not None:
        found.append(Card('gap closed', percent(distilled[0].gap), '(distilled - alone) / (teacher - alone)'))
    seconds = [run.scalars.seconds for row in distilled for run in row.runs if run.scalars.seconds is not None]
    if len(distilled) == 1 and seconds:
        alone = [run.scalars.seconds for row in comparison.of(ALONE) for run in row.runs if run.scalars.seconds is not None]
        mean = sum(seconds) / len(seconds)
        below = f'{mean * len(alone) / sum(alone):.2f} times the student alone' if alone else 'waiting for images included'
        found.append(Card('an iteration', f'{number(mean, 3)} s', below))
    return found


def _row_colours(comparison: Comparison) -> List[str]:
    """One for each row: that of its role, or, where another row of the role has it, one that stands for no other row."""
    free = cycle(colour for colour in COLOURS if colour not in COLOUR_OF.values())
    taken: Set[str] = set()
    found = []
    for row in comparison.rows:
        found.append(COLOUR_OF[row.role] if row.role not in taken else next(free))
        taken.add(row.role)
    return found


def _compared(comparison: Comparison) -> List[Row]:
    return [row for row in comparison.rows if row.runs and row.role != TEACHER]


def _differences(comparison: Comparison) -> Dict[str, List[str]]:
    """In which keys the configs of the rows differ, but for the teacher's; the first of many."""
    found = differing_keys([row.runs[0] for row in _compared(comparison)])
    return {key: [shortened(value, 160) for value in values] for key, values in list(found.items())[:MOST_DIFFERENCES]}


def _overview(comparison: Comparison) -> List[Plot]:
    """What all runs have in common: the metric and the task loss over the iterations."""
    metric, loss = [], []
    for row, colour in zip(comparison.rows, _row_colours(comparison)):
        several = len(comparison.of(row.role)) > 1
        for place, run in enumerate(row.runs):
            name = run.name if several or len(row.runs) > 1 else row.role
            style = ('-', '--', ':', '-.')[place % 4]
            metric.append(Line(name, run.scalars.validation.get(comparison.metric, Series()), colour, style))
            if row.role != TEACHER:
                loss.append(Line(name, run.task_loss, colour, style))
    given = {row.role: row.mean for row in comparison.rows if not row.runs and row.mean is not None}
    level = given.get(TEACHER)
    plots = [draw_lines(f'{comparison.metric} at validations', metric, level,
                        note='The dashed line is the teacher, as given.' if level is not None else ''),
             draw_lines('Task loss', loss, positive=True, note="The student's own losses, without what is distilled.")]
    return [plot for plot in plots if plot is not None]


def _section(run: Run, role: str, colour: str) -> Section:
    plots = {heading: [plot for plot in made if plot is not None] for heading, made in (
        ('Losses', _losses(run)), ('Strength', _strengths(run)), ('Matching', _matching(run)),
        ('Search', _searches(run)), ('Process', _processes(run)), ('Aggregation', _aggregations(run)))}
    text = run.config.text
    cut = f'\n# ... and {len(text) - LONGEST_CONFIG} letters more' if len(text) > LONGEST_CONFIG else ''
    return Section(run, role, colour, {heading: made for heading, made in plots.items() if made}, _facts(run),
                   text[:LONGEST_CONFIG] + cut)


def _losses(run: Run) -> List[Optional[Plot]]:
    distilled = run.logged('loss')
    parts = [Line('task', run.task_loss), *(Line(name, summed(losses.values())) for name, losses in distilled.items())]
    plots = [draw_lines('Task and distillation, weighted' if distilled else 'Loss', parts, positive=True)]
    if len(run.task_losses) > 1:
        plots.append(draw_lines("The task's parts", _lines(run.task_losses), positive=True))
    plots += [draw_lines(f"{name}'s parts", _lines(losses), positive=True) for name, losses in distilled.items()
              if len(losses) > 1]
    return plots


def _strengths(run: Run) -> List[Optional[Plot]]:
    ratios, cosines = run.logged('gradient_ratio'), run.logged('gradient_cosine')
    draw_ratios = partial(draw_lines, level=1., positive=True)
    if len(ratios) > 1:
        return [draw_ratios('Gradient beside the task loss\'s', _whole(ratios, 'gradient_ratio')),
                draw_lines('Cosine of the two gradients', _whole(cosines, 'gradient_cosine'), 0.),
                *(draw_ratios(f'{name}: by tap', _lines(found, 'gradient_ratio'))
                  for name, found in ratios.items() if len(found) > 2)]
    plots: List[Optional[Plot]] = []
    for name, found in ratios.items():
        plots += [draw_ratios(f'{name}: gradient beside the task loss\'s', _lines(found, 'gradient_ratio')),
                  draw_lines(f'{name}: cosine of the two gradients', _lines(cosines.get(name, {}), 'gradient_cosine'), 0.)]
    return plots


def _whole(found: Dict[str, Dict[str, Series]], key: str) -> List[Line]:
    return [Line(name, series[key]) for name, series in found.items() if key in series]


def _lines(found: Dict[str, Series], prefix: str = '') -> List[Line]:
    return [Line(name.removeprefix(prefix).lstrip('_') or 'all taps', series) for name, series in found.items()]


def _matching(run: Run) -> List[Optional[Plot]]:
    lines = [Line(name, Series([step for step, _ in points], [cost for _, cost in points]))
             for name, points in run.log.matching.items()]
    return [draw_lines('Mean cost of the matched channels', lines, note='At each matching; 0 is the same direction, 4 the '
                       'opposite one.')]


def _searches(run: Run) -> List[Optional[Plot]]:
    """What a search has logged on its way; its weights where it has not written them into a file yet."""
    plots: List[Optional[Plot]] = []
    for name, found in run.logged('').items():
        own = {key: series for key, series in found.items() if 'loss' not in key and not key.startswith('gradient_')}
        weights = {key: series for key, series in own.items() if key not in SEARCHED and not key.endswith('.significance')}
        if not run.processes and not run.aggregations:
            plots.append(draw_lines(f'{name}: weights', _lines(weights)))
        plots.append(draw_lines(f'{name}: how even, how sure', _lines({key: own[key] for key in EVIDENCE if key in own}),
                                note='Entropy is 1 where all weights are equal; agreement is that of the latest steps.'))
    return plots


def _processes(run: Run) -> List[Optional[Plot]]:
    return [drawn_by(partial(_draw_process, process), 'Weights over the search', _where(path, run))
            for path, process in run.processes.items()]


def _draw_process(process: Process, file: Path) -> None:
    draw_process(process, [file])


def _aggregations(run: Run) -> List[Optional[Plot]]:
    plots: List[Optional[Plot]] = []
    for path, content in run.aggregations.items():
        plots.append(drawn_by(partial(draw_weights, content), 'Weights of the layers', _where(path, run)))
        if content['course']:
            plots.append(drawn_by(partial(draw_course, content), 'How they came about'))
    return plots


def _where(path: Path, run: Run) -> str:
    folder = run.folder.resolve()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _facts(run: Run) -> Dict[str, str]:
    scalars, saved = run.scalars, run.saved
    rows: List[Tuple[str, Optional[str]]] = [
        ('work dir', str(run.folder)),
        ('iterations', str(scalars.last_step) if scalars.last_step else None),
        ('seed', None if run.seed is None else str(run.seed)),
        ('seconds of an iteration', None if scalars.seconds is None else number(scalars.seconds, 3)),
        ('of these waiting for images', None if scalars.waiting is None else number(scalars.waiting, 3)),
        ('peak memory on a GPU', None if scalars.memory is None else f'{scalars.memory:.0f} MiB'),
        ('last checkpoint', saved.file.name if saved else None)]
    rows += [(f'teacher: {name}', shortened(value, 160)) for name, value in (saved.teacher if saved else {}).items()
             if name.split('.')[-1] != 'config']
    rows += [(where, ', '.join(f'{name} {number(value)}' for name, value in metrics.items()))
             for where, metrics in run.teachers.items()]
    rows += [(f'test: {name}', number(value)) for name, value in run.tested.items()]
    return {name: value for name, value in rows if value is not None}


def costs(row: Row) -> Tuple[Optional[float], Optional[float]]:
    """Seconds of an iteration, the mean of the runs, and the most MiB of a GPU; None where that is not known."""
    seconds = [run.scalars.seconds for run in row.runs if run.scalars.seconds is not None]
    memory = [run.scalars.memory for run in row.runs if run.scalars.memory is not None]
    return (sum(seconds) / len(seconds) if seconds else None, max(memory, default=None))
