"""Which teacher features are compared with which student features, and how: the pathways of DistPro (section 3.1)."""
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Sequence, Union

from ..utils.errors import DistillationError, unknown_name

CONNECTIONS = ('all', 'lower_to_higher', 'higher_to_lower')


@dataclass(frozen=True)
class Pathway:
    """One way from a student feature to a teacher feature.

    Attributes:
        teacher, student: tap addresses.
        transform: name of the trainable transform that takes the student's feature to the teacher's shape.
    """
    teacher: str
    student: str
    transform: str

    def __str__(self) -> str:
        return f'{self.teacher} < {self.student} by {self.transform}'


def make_pathways(teacher: Sequence[str], student: Sequence[str], connections: Union[str, Sequence[Iterable[str]]],
                  transforms: Sequence[str]) -> List[Pathway]:
    """Every connected pair of levels with every transform, ordered by teacher level, student level, transform.

    Args:
        teacher, student: taps of the levels, low (early) to high (late); level i of one corresponds to level i of the other.
        connections: one of ``CONNECTIONS``: ``'all'``; ``'lower_to_higher'``: a teacher level with the student levels that
            are not lower, i <= j (ReviewKD's rule and the paper's); ``'higher_to_lower'``: i >= j; or (student tap, teacher
            tap) of each.
        transforms: names of transforms.

    Raises:
        DistillationError: for a listed tap that is no level, or a pair that is listed twice.
    """
    if isinstance(connections, str):
        rules: Dict[str, Callable[[int, int], bool]] = dict(
            all=lambda i, j: True, lower_to_higher=lambda i, j: i <= j, higher_to_lower=lambda i, j: i >= j)
        keep = rules[connections]
        pairs = [(theirs, ours) for i, theirs in enumerate(teacher) for j, ours in enumerate(student) if keep(i, j)]
    else:
        pairs = [(theirs, ours) for ours, theirs in connections]
        for theirs, ours in pairs:
            for side, tap, taps in (('teacher', theirs, teacher), ('student', ours, student)):
                if tap not in taps:
                    raise unknown_name('', tap, taps, problem=f'is no level of the {side}')
        if len(set(pairs)) < len(pairs):
            raise DistillationError('has a pair twice', given=connections, accepted='each pair once')
        pairs.sort(key=lambda pair: (teacher.index(pair[0]), student.index(pair[1])))
    return [Pathway(theirs, ours, transform) for theirs, ours in pairs for transform in transforms]


def name_pathways(pathways: Sequence[Pathway]) -> List[str]:
    """A short, unique name for each pathway, for logs: ``layer1-layer3``, with the transform where there are several."""
    several = len({pathway.transform for pathway in pathways}) > 1
    levels = {side: level_names(pathways, side) for side in ('teacher', 'student')}
    return [f'{levels["teacher"][pathway.teacher]}-{levels["student"][pathway.student]}'
            + (f'-{pathway.transform}' if several else '') for pathway in pathways]


def level_names(pathways: Sequence[Pathway], side: str) -> Dict[str, str]:
    """A short name for every tap of the ``'teacher'`` or ``'student'``: its last part, or as many as make them differ."""
    taps = list(dict.fromkeys(getattr(pathway, side) for pathway in pathways))
    whole = {tap: tap.split('@')[0].replace('[', '.').replace(']', '').split('.') for tap in taps}
    for parts in range(1, 10):
        names = {tap: '.'.join(path[-parts:]) for tap, path in whole.items()}
        digits = any(name.lstrip('-').split('.')[0].isdigit() for name in names.values())
        if len(set(names.values())) == len(taps) and not digits:
            return names
    return {tap: tap for tap in taps}
