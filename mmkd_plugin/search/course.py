"""The course of a search: values that were noted on the way, by name."""
from typing import Any, Dict, List, Mapping, Sequence

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

    def state(self) -> Dict[str, Any]:
        """For a checkpoint."""
        return {name: [list(point) for point in points] for name, points in self.points.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned."""
        self.points = {name: [list(point) for point in points] for name, points in state.items()}
