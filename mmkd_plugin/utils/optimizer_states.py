"""The states of torch's optimisers in a checkpoint, checked before an optimiser takes them: it takes whatever it finds."""
import copy
from typing import Any, List, Mapping

import torch
from torch import Tensor

from .errors import DistillationError, check_known_keys, under
from .records import Anything, Array, Entry, Listing, Maybe, Named, Plain, Real, Shown, Truth, Whole, Words

MOMENTS = ('momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'square_avg', 'grad_avg', 'sum')
"""What torch's optimisers keep for each weight, of its shape."""
IMPLEMENTATIONS = ('foreach', 'fused')
"""Options of a group of weights that are None where torch chooses."""


class OptimizerState(Entry):
    """What ``state_dict`` of an optimiser returns.

    Args:
        optimizer: the optimiser that goes on from it.
    """
    accepted = 'the state of an optimiser'

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    def check(self, value: Any) -> None:
        for name, kind, words in (('param_groups', list, 'a list of dicts'), ('state', dict, 'a dict')):
            part = value.get(name) if isinstance(value, dict) else None
            if not isinstance(part, kind):
                raise DistillationError(path=name, given=Shown(part), accepted=words)
        parameters: List[Tensor] = []
        groups = self.optimizer.param_groups
        if len(value['param_groups']) != len(groups):
            raise DistillationError(path='param_groups', given=Shown(value['param_groups']),
                                    accepted=f'a list of {len(groups)}')
        for number, (theirs, ours) in enumerate(zip(value['param_groups'], groups)):
            with under(f'param_groups[{number}]'):
                _check_group(theirs, ours, len(parameters))
            parameters += ours['params']
        with under('state'):
            Named(Named(Plain()), Whole(most=max(len(parameters) - 1, 0))).check(value['state'])
            for number, state in value['state'].items():
                _check_moments(number, state, parameters[number])


class SteadyOptimizerState(OptimizerState):
    """The state of a small optimiser whose options nothing moves, as that of a search: a copy of it is tried out.

    The options have to be those that the optimiser has, and what it keeps for each parameter of the names, shapes and types
    that its step leaves. A step from there has to end at finite numbers.
    """

    def check(self, value: Any) -> None:
        super().check(value)
        for number, (theirs, ours) in enumerate(zip(value['param_groups'], self.optimizer.param_groups)):
            for name, own in ours.items():
                if name != 'params' and not _same(theirs[name], own):
                    raise DistillationError(path=f'param_groups[{number}].{name}', given=Shown(theirs[name]),
                                            accepted=f'as in the config, {own!r}')
        kept = _stepped(self.optimizer).state_dict()['state']
        for number, state in value['state'].items():
            with under(f'state.{number}'):
                _check_kept(state, kept[number])
        try:
            moved = _stepped(self.optimizer, value)
        except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
            raise DistillationError(f'is taken by no optimiser ({str(error)[:200]})', path='state') from None
        if not all(bool(each.isfinite().all()) for group in moved.param_groups for each in group['params']):
            raise DistillationError('a step from there ends at NaN or infinity', path='state')


def _stepped(optimizer: torch.optim.Optimizer, state: Any = None) -> torch.optim.Optimizer:
    """A copy of an optimiser, with copies of what it moves, after a step."""
    trial = copy.deepcopy(optimizer)
    if state is not None:
        trial.load_state_dict(copy.deepcopy(state))
    for group in trial.param_groups:
        for parameter in group['params']:
            parameter.grad = torch.zeros_like(parameter)
    trial.step()
    return trial


def _same(value: Any, own: Any) -> bool:
    """Whether an option is the same, in kind too: True is no 1."""
    if isinstance(own, (list, tuple)):
        return (isinstance(value, (list, tuple)) and len(value) == len(own)
                and all(_same(one, other) for one, other in zip(value, own)))
    number = type(own) in (int, float) and type(value) in (int, float)
    return (number or type(value) is type(own)) and bool(value == own)


def _check_kept(state: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Names, shapes and types are those that a step leaves."""
    check_known_keys('', state, kept)
    for name, own in kept.items():
        if name not in state:
            raise DistillationError('is missing', path=name, accepted=f'as the optimiser keeps it, {Shown(own)!r}')
        with under(name):
            if isinstance(own, Tensor):
                Array(own.dtype, tuple(own.shape)).check(state[name])
            elif own is not None or state[name] is not None:
                check_alike(state[name], own)


def _check_group(saved: Any, present: Mapping[str, Any], first: int) -> None:
    """The parameters are numbered through, and each option of the optimiser is there, of its kind."""
    expected = list(range(first, first + len(present['params'])))
    if not isinstance(saved, dict) or saved.get('params') != expected:
        given = saved.get('params') if isinstance(saved, dict) else saved
        raise DistillationError(path='params', given=Shown(given),
                                accepted=f'a list of {len(expected)} numbers of parameters')
    for name, value in present.items():
        if name != 'params':
            if name not in saved:
                raise DistillationError('is missing', path=name, accepted=f'as the optimiser has it, {Shown(value)!r}')
            with under(name):
                Maybe(Truth()).check(saved[name]) if name in IMPLEMENTATIONS else check_alike(saved[name], value)


def _check_moments(number: int, state: Mapping[str, Any], parameter: Tensor) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor):
            with under(f'{number}.{name}'):
                Array(shape=tuple(parameter.shape) if value.dim() else ()).check(value)
        elif name in MOMENTS and value is not None:  # None: there is no momentum
            raise DistillationError(path=f'{number}.{name}', given=Shown(value), accepted='a tensor')


def check_alike(value: Any, present: Any) -> None:
    """Raises :class:`DistillationError` unless a value is of the kind of the present one; numbers are finite."""
    if present is None or value is None:
        Plain().check(value)
    elif isinstance(present, Tensor):
        Array(shape=tuple(present.shape)).check(value)
    elif isinstance(present, bool):
        Truth().check(value)
    elif isinstance(present, (int, float)):
        Array(shape=()).check(value) if isinstance(value, Tensor) else Real().check(value)
    elif isinstance(present, str):
        Words().check(value)
    elif isinstance(present, (list, tuple)):
        Listing(Plain(), len(present) if all(isinstance(item, (int, float)) for item in present) else None).check(value)
        for number, (item, own) in enumerate(zip(value, present)):
            with under(f'[{number}]'):
                check_alike(item, own)
    elif isinstance(present, dict):
        Named(Plain(), Anything()).check(value)
