"""The architecture side of a search: beta of the group at hand, its optimiser, the balance of the two paths."""
import logging
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OPTIMIZERS
from torch import Tensor

from ..utils.errors import DistillationError, building, under, unknown_name
from ..utils.optimizer_states import SteadyOptimizerState
from ..utils.records import Anything, Fields, Maybe, Named, Whole, Words
from .bilevel import (
    MixedDerivative,
    NoSecondDerivative,
    VirtualStep,
    exact_mixed_derivative,
    finite_mixed_derivative,
    first_order_gradient,
    unrolled_gradient,
)
from .bridge import BALANCE_RANGE, balance, bridge_loss
from .connectors import ConnectedGroup

BALANCE_BATCHES = 50


@dataclass(frozen=True)
class PathLosses:
    """The losses of both paths of one forward, without their gammas.

    Attributes:
        ts: scalar, the student's own loss from the injected aggregation on.
        st: scalar, the distance of the student's feature and the aggregation.
    """
    ts: Tensor
    st: Tensor


class Gammas:
    """Weights of the two paths. ``'auto'`` sets the first so that both pull at beta equally hard, and then leaves it.

    Args:
        st: weight of the student-teacher path, or ``'auto'``: found anew in the first batches of each group; 1 until then.
        ts: weight of the teacher-student path.
    """

    def __init__(self, st: Union[float, str], ts: float):
        self.auto = st == 'auto'
        self.st, self.ts = 1.0 if self.auto else float(st), float(ts)
        self._norms, self._seen = [0.0, 0.0], 0

    @property
    def measuring(self) -> bool:
        """Whether the balance is still looked for."""
        return self.auto and self._seen < BALANCE_BATCHES

    @property
    def batches(self) -> int:
        """In how many the balance was looked for."""
        return self._seen

    @property
    def at_bound(self) -> bool:
        """Whether the balance was looked for, and lies where it must not go further."""
        return self.auto and self._seen > 0 and balance(*self._norms) in BALANCE_RANGE

    def restart(self) -> None:
        """For a new group."""
        self._norms, self._seen = [0.0, 0.0], 0
        if self.auto:
            self.st = 1.0

    def measure(self, gradient_ts: Tensor, gradient_st: Tensor) -> None:
        """Takes the gradients of one batch with respect to beta into account."""
        self._norms = [self._norms[0] + float(gradient_ts.norm()), self._norms[1] + float(gradient_st.norm())]
        self._seen += 1
        self.st = self.ts * balance(*self._norms)

    def state(self) -> Dict[str, Any]:
        """Everything resuming needs."""
        return dict(st=self.st, norms=list(self._norms), seen=self._seen)

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned."""
        self.st, self._norms, self._seen = state['st'], list(state['norms']), state['seen']


class AggregationSearch:
    """Trains beta, one group at a time.

    Args:
        groups: all groups, shallow to deep.
        gammas: the weights of the two paths in the bridge loss.
        optimizer: config of the optimiser of beta; every group gets a new one, so that no momentum or decay of one group's
            moves another's beta.
        regularisation: lambda; the gradient of ``lambda / 2 * |beta|^2`` is added.

    Attributes:
        mixed: takes the second-order term of an unrolled gradient; where an operation of the student has no second
            derivative, it becomes the one by finite differences.
    """

    def __init__(self, groups: Sequence[ConnectedGroup], gammas: Gammas, optimizer: Mapping[str, Any],
                 regularisation: float):
        self.groups, self.gammas = groups, gammas
        self.regularisation = regularisation
        self.index: Optional[int] = None
        self.used_gammas: Dict[str, Dict[str, float]] = {}
        self._optimizer_cfg = optimizer
        self.mixed: MixedDerivative = exact_mixed_derivative
        self._optimizer: Optional[torch.optim.Optimizer] = None

    @property
    def group(self) -> ConnectedGroup:
        """The group at hand."""
        assert self.index is not None, 'enter() comes first'
        return self.groups[self.index]

    def enter(self, index: int) -> None:
        """Begins the search of a group, unless it is in progress."""
        if index != self.index:
            self.index = index
            self._build_optimizer()
            self.gammas.restart()

    def _build_optimizer(self) -> torch.optim.Optimizer:
        kind = self._optimizer_cfg['type']
        with building('optimizer', f'It is {self._optimizer_cfg}; the options are those of torch.optim.'):
            if OPTIMIZERS.get(kind) is None:
                raise unknown_name('optimizer.type', kind, OPTIMIZERS.module_dict)
            optimizer: torch.optim.Optimizer = OPTIMIZERS.build({**self._optimizer_cfg, 'params': [self.group.beta]})
        for wrong, problem in ((torch.optim.LBFGS, 'looks at the loss several times a step'),
                               (torch.optim.SparseAdam, 'takes sparse gradients alone')):
            if isinstance(optimizer, wrong):
                raise DistillationError(problem, path='optimizer.type', given=kind,
                                        accepted="one that takes a gradient, e.g. 'Adam'")
        self._optimizer = optimizer
        return optimizer

    def gradient(self, val: Callable[[], PathLosses], train: Optional[Callable[[], PathLosses]] = None,
                 steps: Callable[[], List[VirtualStep]] = list, scale: Optional[Tensor] = None) -> Optional[Tensor]:
        """The gradient (N,) of the present group's beta, averaged over ranks, regularisation included.

        Changes nothing, but for the balance of the gammas where that is ``'auto'``.

        Args:
            val: computes the losses of the validation batch, from the present beta.
            train: computes the losses of the training batch. Given, the gradient is taken at the weights of the next
                training step.
            steps: gives that training step, for every weight; needed with ``train``.
            scale: the factor on losses in half precision.

        Returns:
            The gradient; None where the scaled losses have overflown.

        Raises:
            DistillationError: if it is not finite.
        """
        with self.group.live() as beta:
            gradient = self._bridge_gradient(beta, val, train, steps, 1.0 if scale is None else scale)
        if bool(gradient.isfinite().all()):
            return gradient + self.regularisation * self.group.beta
        if scale is not None:
            return None
        raise DistillationError(f'search of {self.group.name}: the gradient of beta is not finite',
                                hint='Lower the learning rate, or check the validation data.')

    def step(self, gradient: Optional[Tensor]) -> None:
        """One step of the present group's beta. No weight and no other beta changes."""
        if gradient is not None and self._optimizer is not None:
            self.group.beta.grad = gradient
            self._optimizer.step()
            self.group.beta.grad = None
            self.group.forget_weights()

    def _bridge_gradient(self, beta: Tensor, val: Callable[[], PathLosses], train: Optional[Callable[[], PathLosses]],
                         steps: Callable[[], List[VirtualStep]], scale: Union[float, Tensor]) -> Tensor:
        def total(losses: PathLosses) -> Tensor:
            return bridge_loss(losses.st, losses.ts, self.gammas.st, self.gammas.ts) * scale

        if self.gammas.measuring:
            losses = val()
            ts, st = (_averaged(gradient) / scale for gradient in _separately(losses, beta, scale))
            if bool((ts + st).isfinite().all()):
                self.gammas.measure(ts, st)
            return self.gammas.st * st + self.gammas.ts * ts
        if train is None:
            return _averaged(first_order_gradient(total(val()), beta)) / scale
        return _averaged(self._unrolled_gradient(lambda: total(val()), lambda: total(train()), beta, steps(), scale))

    def _unrolled_gradient(self, val: Callable[[], Tensor], train: Callable[[], Tensor], beta: Tensor,
                           steps: List[VirtualStep], scale: Union[float, Tensor]) -> Tensor:
        try:
            return unrolled_gradient(val, train, beta, steps, scale, self.mixed)
        except NoSecondDerivative as error:
            print_log(f'search: {error} of the student has no second derivative; the second-order term is taken by finite '
                      'differences from now on, which may be far off', 'current', level=logging.WARNING)
        self.mixed = finite_mixed_derivative
        return unrolled_gradient(val, train, beta, steps, scale, self.mixed)

    def note_gammas(self) -> None:
        """Keeps the gammas the present group has been searched with so far."""
        self.used_gammas[self.group.name] = dict(st=self.gammas.st, ts=self.gammas.ts)

    def state(self) -> Dict[str, Any]:
        """Everything resuming needs, beside the betas."""
        return dict(index=self.index, optimizer=self._optimizer.state_dict() if self._optimizer else None,
                    gammas=self.gammas.state(), used_gammas=self.used_gammas)

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned.

        Raises:
            DistillationError: for a state of the optimiser that does not fit, or another group.
        """
        names = [group.name for group in self.groups]
        Fields(dict(index=Maybe(Whole(most=len(names) - 1)), used_gammas=Named(Anything(), Words(tuple(names))))).check(
            {name: state[name] for name in ('index', 'used_gammas')})
        self.index, self.used_gammas = state['index'], state['used_gammas']
        self.gammas.load(state['gammas'])
        if self.index is None:
            return
        optimizer = self._build_optimizer()
        with under('optimizer'):
            SteadyOptimizerState(optimizer).check(state['optimizer'])
        optimizer.load_state_dict(state['optimizer'])


def _separately(losses: PathLosses, beta: Tensor, scale: Union[float, Tensor]) -> Tuple[Tensor, Tensor]:
    ts, = torch.autograd.grad(losses.ts * scale, beta, retain_graph=True, allow_unused=True)
    return torch.zeros_like(beta) if ts is None else ts, first_order_gradient(losses.st * scale, beta)


def _averaged(gradient: Tensor) -> Tensor:
    """Over ranks, before it is used: every rank takes the same step."""
    all_reduce(gradient, op='mean')
    return gradient
