"""One scale for all members of a process: with it, weight 1 means a gradient as large as the task loss's."""
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..distiller import GradientComparison, ScaleCalibration
from ..utils.errors import under
from ..utils.records import Array, ChecksState, Entry

SEARCH_WINDOW, SHARE_OF_SEARCH = 100, 10
"""How many iterations of a search its scales take, unless the config says it; of its length the tenth at most."""


class MemberScales(nn.Module, ChecksState):
    """Finds the scale of each member in the first iterations, by comparing its gradient with the task loss's.

    Both gradients are taken at the student's taps that the member reads, all together; the scale is the geometric mean of
    their ratio over the later half of the window, and frozen then.

    Args:
        names: the members' names.
        iterations: the window; None: it moves on until the ratio has settled, as that of ``loss_scale='auto'``.
    """

    searched: Tensor

    def __init__(self, names: Sequence[str], iterations: Optional[int]):
        super().__init__()
        self.names, self.iterations = list(names), iterations
        self.register_buffer('searched', torch.zeros(len(self.names), dtype=torch.float64))
        self.calibrations = nn.ModuleList(ScaleCalibration(iterations, 'scales', 'scale_iters') for _ in names)
        self._window = 0
        self._losses: Dict[int, Tuple[Tensor, Sequence[str]]] = {}

    @property
    def finished(self) -> bool:
        """Whether every scale has been found."""
        return all(calibration.finished for calibration in self._calibrations())

    def in_search(self, length: int) -> int:
        """Makes the window no longer than a tenth of a search, and returns its length: the importance waits for its end.

        Args:
            length: the iterations of the search.
        """
        window = min(self.iterations or SEARCH_WINDOW, max(1, length // SHARE_OF_SEARCH))
        for calibration in self._calibrations():
            calibration.limit = window
        self._window = window
        return window

    def go_on(self) -> None:
        """After a search: opens a second window, which goes on with what the first has found. Again in a resumed run.

        Gradients of losses between features shrink faster than the task loss's, most of all in the first hundred iterations.
        """
        if not self.searched.any():
            self.searched.copy_(torch.tensor(self.values(), dtype=torch.float64))
        for calibration in self._calibrations():
            calibration.go_on()

    def describe(self) -> str:
        """For how long it goes on, in words."""
        return 'until each settles' if self.iterations is None else f'over {self.iterations} iterations'

    def values(self) -> List[float]:
        """The scales, as far as they have been found."""
        return [calibration.scale for calibration in self._calibrations()]

    def of_search(self) -> List[float]:
        """The scales that a search has worked with; as long as it lasts, those that have been found."""
        return self.searched.tolist() if self.searched.any() else self.values()

    def moving(self) -> List[str]:
        """The members whose scale is still looked for; not those that have not acted, or not since the search."""
        return [name for name, calibration in zip(self.names, self._calibrations())
                if not calibration.finished and int(calibration.counted) > self._window]

    def state_entries(self) -> Dict[str, Entry]:
        return dict(searched=Array(torch.float64, (len(self.names),), least=0))

    def note(self, index: int, loss: Tensor, taps: Sequence[str]) -> None:
        """Keeps a member's loss of the step at hand, if its scale is still to be found.

        Args:
            index: the number of the member.
            loss: l_p, a scalar that is not weighted.
            taps: the student's taps that it reads.
        """
        if not self._calibrations()[index].finished:
            self._losses[index] = loss, taps

    def take_losses(self) -> Dict[str, Tuple[Tensor, Sequence[str]]]:
        """The kept losses by the member's name, each with its taps; no longer held here."""
        losses, self._losses = self._losses, {}
        return {self.names[index]: noted for index, noted in losses.items()}

    def observe(self, comparisons: Mapping[str, GradientComparison], path: str) -> None:
        """Takes a step into account.

        Args:
            comparisons: by the member's name, its gradient compared with the task loss's.
            path: where the process stands in the config, for the log.
        """
        for name, comparison in comparisons.items():
            with under(name):
                self._calibrations()[self.names.index(name)].observe(comparison, f'{path}, {name}')

    def _calibrations(self) -> List[ScaleCalibration]:
        return [calibration for calibration in self.calibrations if isinstance(calibration, ScaleCalibration)]

