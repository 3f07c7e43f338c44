"""The course of a search: values that were noted on the way, by name."""
from typing import Any, Dict, List, Mapping, Sequence

from ..utils.errors import DistillationError, under
from ..utils.records import Fields, Listing, Real, Shown

Point = List[float]
"""The iteration or epoch, then the values."""


class Course:
    """Values of one or several quantities over a search."""

    def __init__(self) -> None:
        self.points: Dict[str, List[Point]] = {}

    def note(self, name: str, position: int, values: Sequence[float]) -> None:
        """Adds the values of a quantity at an iteration (or epoch)."""
        self.points.setdefault(name, []).append([position, *values])

    def values(self, name: str) -> List[List[float]]:
        """The noted values of a quantity, without their positions."""
        return [point[1:] for point in self.points.get(name, [])]

    def check(self, widths: Mapping[str, int]) -> None:
        """Looks at points that come from a checkpoint.

        Args:
            widths: how many values each quantity has.

        Raises:
            DistillationError: for a point that a search cannot have noted; the path is its place.
        """
        Fields({name: Listing(Listing(Real(), 1 + width)) for name, width in widths.items()},
               optional=widths).check(self.points)
        for name, points in self.points.items():
            positions = [point[0] for point in points]
            for number, (before, position) in enumerate(zip(positions, positions[1:]), 1):
                if position <= before:
                    with under(f'{name}[{number}][0]'):
                        raise DistillationError(given=Shown(position), accepted=f'a number > {before}, the one before')

    def state(self) -> Dict[str, Any]:
        """For a checkpoint."""
        return {name: [list(point) for point in points] for name, points in self.points.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned."""
        self.points = {name: [list(point) for point in points] for name, points in state.items()}
