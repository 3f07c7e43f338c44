"""Noticing the first feature that is NaN or infinite, without waiting for the device."""
from typing import Dict, Tuple

import torch
from torch import Tensor

from ..utils.errors import DistillationError

HINTS = dict(student='Lower the learning rate or loss_weight, or check the data of that iteration.',
             teacher='Check its checkpoint, the normalisation of its input, and the data of that iteration.')


class NonFiniteWatch:
    """Remembers, on the device, the first iteration at which each tap held NaN or infinity.

    Reading it costs a host sync, so on a GPU that happens only when :meth:`report` is called; on the CPU, where it costs
    nothing, in every iteration.
    """

    def __init__(self) -> None:
        self._first: Dict[Tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def look(self, features: Dict[str, Dict[str, Tensor]], iteration: int) -> None:
        """Looks at the features of an iteration.

        Args:
            features: by role ('student', 'teacher') and address.
            iteration: the global iteration.
        """
        for role, by_address in features.items():
            for address, feature in by_address.items():
                # NaN and infinity both survive the extrema, in every precision, in one pass over the feature.
                low, high = feature.detach().aminmax()
                bad = ~(low.isfinite() & high.isfinite())
                first = self._first.get((role, address))
                if first is None or first.device != bad.device:
                    first = torch.full_like(bad, -1, dtype=torch.long)
                self._first[role, address] = torch.where((first < 0) & bad, iteration, first)
        if self._first and next(iter(self._first.values())).device.type == 'cpu':
            self.report()

    def report(self) -> None:
        """Raises :class:`DistillationError` if a feature has held NaN or infinity; names tap and iteration."""
        for (role, address), first in self._first.items():
            if int(first) >= 0:
                raise DistillationError(f'tap {address!r} of the {role} held NaN or infinity in iteration {int(first)}',
                                        hint=HINTS[role])
