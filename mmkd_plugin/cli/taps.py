"""``mmkd taps``: the places of a student and its teacher that are worth tapping, and which belong together."""
from typing import List, Optional, Sequence

from rich.table import Table

from ..taps.places import Place
from ..taps.suggestions import PlacePair, addresses, suggest_levels, suggest_logits, suggest_pairs
from .render import inline
from .subject import DEFAULT_SHAPE, look_at
from .terminal import console


def taps(config: str, teacher: Optional[str] = None, shape: Sequence[int] = DEFAULT_SHAPE) -> None:
    """Prints the places of a student and of its teachers, and the pairs that are suggested.

    Args:
        config: a path or ``package::path``, of a student alone or of a distilled one.
        teacher: the same, of a teacher; None for those of a distilled config.
        shape: (C, H, W) of the image that runs through them.

    Raises:
        DistillationError: if a config is not found or does not build, or a model does not run on such an image.
    """
    subject = look_at(config, teacher)
    ours = subject.places(shape)
    out = console()
    out.print(places_table(f'student: {type(subject.student).__name__} of {config}', ours, gradient=True))
    for name in subject.teachers:
        theirs = subject.places_of(name, shape)
        model = type(subject.teachers[name].model).__name__
        of = f' of {teacher}' if teacher else ''
        out.print(places_table(f'{f"teacher {name}" if name else "teacher"}: {model}{of}', theirs, gradient=False))
        out.print('\n'.join(suggestions(ours, theirs, name)), markup=False, highlight=False)


def places_table(title: str, places: Sequence[Place], gradient: bool) -> Table:
    """The places of a model as a table.

    Args:
        title: what stands above it.
        places: the places.
        gradient: whether it is said if anything is trained at or before them.
    """
    table = Table(title=title, title_justify='left')
    for name in ('tap', 'kind', 'width', 'stride', 'size', *(['trained'] if gradient else []), '@preact', 'module'):
        table.add_column(name, justify='right' if name in ('width', 'stride', 'size') else 'left', overflow='fold')
    for place in places:
        size = f'{place.size[0]}x{place.size[1]}' if place.size else 'vector'
        trained = ['yes' if place.gradient else 'frozen'] if gradient else []
        address = place.address.replace('[', '\\[')  # rich reads what is in brackets
        table.add_row(address, place.kind, str(place.channels), str(place.stride or ''), size, *trained,
                      'yes' if place.preact else '', place.type)
    return table


def suggestions(student: Sequence[Place], teacher: Sequence[Place], name: str = '') -> List[str]:
    """Lines with the pairs that are suggested, as a config has them.

    Args:
        student, teacher: the places of both.
        name: the teacher's, where it has one.
    """
    def line(what: str, pairs: Sequence[PlacePair], before_activation: bool = False) -> str:
        found = [(ours, f'{name}:{theirs}' if name else theirs) for ours, theirs in addresses(pairs, before_activation)]
        return f'{what + ":":<9}pairs={inline(found)}'

    stages, levels = suggest_pairs(student, teacher), suggest_levels(student, teacher)
    logits = suggest_logits(student, teacher)
    found = [line('stages', stages, before_activation=True)] if stages else ['stages:  none that belong together']
    found += [line('neck', levels)] if levels else []
    none = 'logits:  none that can be tapped in both, with as many classes'
    return [*found, line('logits', [logits]) if logits else none]
