"""What the ranks of a distributed run have to agree on, and what each has of its own."""
import logging
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TypeVar

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, gather_object, get_rank, get_world_size
from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from ...utils.errors import DistillationError, check_known_keys, under
from ...utils.records import Array, Fields, Shown, like
from ..student import unwrap
from .digest import digest

Result = TypeVar('Result')
Buffers = Dict[str, Dict[str, Tensor]]
"""Buffers by the name of the module they belong to (``'model'``, ``'ema'``) and their own."""


def decided_by_the_first(decide: Callable[[], Result]) -> Result:
    """What rank 0 decides, on every rank; if it fails, every rank raises an error: the others would wait for it."""
    outcome: List[Any] = [None, None]
    if get_rank() == 0:
        try:
            outcome[0] = decide()
        except DistillationError as error:
            outcome[1] = error
        except Exception as error:
            outcome[1] = DistillationError(f'cannot be looked at ({type(error).__name__}: {error})', path='resume')
            outcome[1].__cause__ = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    decided: Result = outcome[0]
    return decided


def check_even_epochs(runner: Runner) -> None:
    """Refuses epochs that are longer on one rank than on another, which would wait for the others for ever.

    Raises:
        DistillationError: on every rank, with the number of batches of each.
    """
    if get_world_size() == 1 or not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    batches = all_gather_object(len(runner.train_dataloader))
    if len(set(batches)) > 1:
        raise DistillationError(
            f'gives the ranks epochs of different lengths: {", ".join(map(str, batches))} batches (rank 0, 1, ...); the '
            'ranks with more would wait for the others', path='train_dataloader',
            accepted='as many batches on every rank: a sampler with round_up=True, or drop_last=True')


def modules_of(runner: Runner) -> Dict[str, nn.Module]:
    """The modules of a run whose buffers may differ between ranks: the model, and its average."""
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    return dict(model=unwrap(runner.model), **({'ema': averages[0]} if averages else {}))


def own_buffers(runner: Runner) -> Buffers:
    """The buffers in which this rank differs from rank 0, such as the statistics of batch norms; none on rank 0."""
    if get_world_size() == 1:
        return {}
    buffers = {kind: dict(module.named_buffers()) for kind, module in modules_of(runner).items()}
    digests = {kind: {name: digest(value) for name, value in named.items()} for kind, named in buffers.items()}
    first = [digests]
    broadcast_object_list(first)
    return {kind: {name: value.detach().cpu().clone() for name, value in named.items()
                   if first[0][kind].get(name) != digests[kind][name]} for kind, named in buffers.items()}


def check_own(runner: Runner, ranks: Sequence[Mapping[str, Any]]) -> None:
    """Raises :class:`DistillationError` for buffers or gradients in a checkpoint that the run's modules do not have."""
    modules = modules_of(runner)
    buffers = {kind: dict(module.named_buffers()) for kind, module in modules.items()}
    parameters = {name: Array(shape=tuple(value.shape), finite=False) for name, value in modules['model'].named_parameters()}
    for number, rank in enumerate(ranks):
        with under(f'mmkd.ranks[{number}]'):
            with under('gradients'):
                check_known_keys('', rank.get('gradients', {}), parameters)
                for name, value in rank.get('gradients', {}).items():
                    if tuple(value.shape) != parameters[name].shape:
                        raise DistillationError(path=name, given=Shown(value), accepted=parameters[name].accepted)
            for kind, named in rank.get('buffers', {}).items():
                with under(f'buffers.{kind}'):
                    own = buffers.get(kind, {})
                    Fields({name: like(value) for name, value in own.items()}, optional=own).check(named)


def give_back_buffers(runner: Runner, own: Buffers) -> None:
    """Puts the buffers in place in which this rank differed from rank 0, once the weights have been loaded."""
    for kind, module in modules_of(runner).items():
        saved = own.get(kind, {})
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in saved:
                    buffer.copy_(saved[name])


def state_on_this_rank(name: str, state: Mapping[str, Tensor], own: Buffers) -> Dict[str, Tensor]:
    """A distiller's state with the buffers in which this rank differed.

    Args:
        name: the distiller's.
        state: its state on rank 0.
        own: what :func:`own_buffers` had returned on this rank.
    """
    prefix = f'distillation.{name}.'
    return {**state, **{key.removeprefix(prefix): value for key, value in own.get('model', {}).items()
                        if key.startswith(prefix)}}


def own_part(runner: Runner, ranks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What this rank has of its own in a checkpoint; with another number of ranks, what rank 0 has, with a warning."""
    if len(ranks) == get_world_size():
        return ranks[int(get_rank())]
    own, generators = dict(ranks[0]), 'its random generators go on as those of rank 0 did'
    if runner._randomness_cfg.get('diff_rank_seed', False):
        del own['rng']  # the ranks are to draw differently
        generators = 'its random generators begin anew (diff_rank_seed)'
    if get_world_size() > 1 or len(ranks) > 1:
        print_log(f'resume: the checkpoint has the state of {len(ranks)} ranks, the run has {get_world_size()}. Each rank '
                  f'goes on with that of rank 0, and {generators}: the run is not bit-equal to one that was not '
                  'interrupted.', 'current', level=logging.WARNING)
    return own


def gathered(own: Mapping[str, Any]) -> Optional[List[Mapping[str, Any]]]:
    """On rank 0 what each rank has, in their order; None on the others. To be called on every rank."""
    everyone: Optional[List[Mapping[str, Any]]] = gather_object(own)
    return everyone
