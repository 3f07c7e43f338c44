"""Noticing the first feature or loss that is NaN or infinite, without waiting for the device."""
from typing import Callable, Dict, Mapping, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..taps.shapes import as_stored
from ..utils.errors import DistillationError

HINTS = dict(student='Lower the learning rate (optim_wrapper.optimizer.lr) or loss_weight, or check the data of that '
             'iteration.', teacher='Check its checkpoint, the normalisation of its input, and the data of that iteration.')
LOSS_HINT = 'Lower its loss_weight or loss_scale, or the learning rate (optim_wrapper.optimizer.lr).'


class NonFiniteWatch:
    """Remembers, on the device, the first iteration at which each tap, and each loss of a distiller, was not finite.

    Reading it costs a host sync, so on a GPU that happens only when :meth:`report` is called; on the CPU, where it costs
    nothing, in every iteration.

    Args:
        distillers: gives the distillers by name; their weights are looked at when something is reported.
    """

    def __init__(self, distillers: Callable[[], Mapping[str, nn.Module]] = dict) -> None:
        self._distillers = distillers
        self._first: Dict[Tuple[str, str], Tensor] = {}
        self._first_losses: Dict[Tuple[str, str], Tensor] = {}

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
                low, high = as_stored(feature.detach()).aminmax()
                _note(self._first, (role, address), ~(low.isfinite() & high.isfinite()), iteration)
        if _on_host(self._first):
            self._report_features()

    @torch.no_grad()
    def look_at_losses(self, losses: Mapping[str, Mapping[str, Tensor]], iteration: int) -> None:
        """Looks at the losses of an iteration.

        Args:
            losses: by distiller and name: scalars, as they are added to the student's own.
            iteration: the global iteration.
        """
        for distiller, by_name in losses.items():
            for name, value in by_name.items():
                _note(self._first_losses, (distiller, name), ~value.detach().isfinite().all(), iteration)
        if _on_host(self._first_losses):
            self._report_losses()

    @torch.no_grad()
    def report(self) -> None:
        """Raises :class:`DistillationError` if a feature, a loss or a weight of a distiller has been NaN or infinite.

        It names the tap or the loss and the iteration; for a weight, which is looked at here alone, the weight.
        """
        distillers = self._distillers()
        weights = [weight.isfinite().all() for module in distillers.values() for weight in module.parameters()]
        seen = [first < 0 for first in (*self._first.values(), *self._first_losses.values())]
        if _all(weights + seen):
            return
        self._report_features()
        self._report_losses()
        for name in distillers:
            found = self._weights(name)
            if found:
                raise DistillationError(f'the weights {found} are NaN or infinite', path=f'model.distillers.{name}',
                                        hint=LOSS_HINT)

    def _report_features(self) -> None:
        found = [(int(first), role, address) for (role, address), first in self._first.items()]
        # What was first, and the teacher before the student: it does not change, so its NaN is nobody else's.
        for iteration, role, address in sorted(found, key=lambda one: (one[0], one[1] == 'student')):
            if iteration >= 0:
                raise DistillationError(f'tap {address!r} of the {role} held NaN or infinity in iteration {iteration}',
                                        path=_checkpoint_of(address) if role == 'teacher' else '', hint=HINTS[role])

    def _report_losses(self) -> None:
        for (distiller, name), first in self._first_losses.items():
            if int(first) >= 0:
                weights = self._weights(distiller)
                cause = f', and so are its weights {weights}' if weights else ''
                raise DistillationError(f'{name} was NaN or infinite in iteration {int(first)}{cause}',
                                        path=f'model.distillers.{distiller}', hint=LOSS_HINT)

    def _weights(self, distiller: str) -> str:
        """Names of a distiller's weights that are not finite."""
        module = self._distillers().get(distiller)
        named = module.named_parameters() if module is not None else ()
        return ', '.join(name for name, weight in named if not bool(weight.isfinite().all()))


def _note(first: Dict[Tuple[str, str], Tensor], key: Tuple[str, str], bad: Tensor, iteration: int) -> None:
    before = first.get(key)
    if before is None or before.device != bad.device:
        before = torch.full_like(bad, -1, dtype=torch.long)
    first[key] = torch.where((before < 0) & bad, iteration, before)


@torch.no_grad()
def _all(flags: Sequence[Tensor]) -> bool:
    """Whether all hold: one sync, however many there are."""
    devices = {flag.device for flag in flags}
    return all(bool(torch.stack([flag for flag in flags if flag.device == device]).all()) for device in devices)


def _on_host(first: Mapping[Tuple[str, str], Tensor]) -> bool:
    return bool(first) and next(iter(first.values())).device.type == 'cpu'


def _checkpoint_of(address: str) -> str:
    """The key of the checkpoint of the teacher that a tap, or a sum of taps, is of."""
    name, is_named, _ = address.partition(':')
    return f'model.teachers.{name}.checkpoint' if is_named else 'model.teacher.checkpoint'
