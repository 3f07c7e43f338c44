"""What mmengine itself keeps in a checkpoint, checked before it is used to resume a distilled run.

mmengine goes on with whatever it finds: a weight that is missing or of another shape is a line in the log, a scheduler takes
any attribute. In a run that is resumed, each of these is an error.
"""
from typing import Any, Dict, Mapping, Sequence

import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from ...utils.errors import DistillationError, under
from ...utils.optimizer_states import OptimizerState, check_alike
from ...utils.records import Anything, Array, Named, Shown, Truth, Whole
from .ranks import modules_of

SEEDS = Whole(most=2 ** 32 - 1)


def check_outline(checkpoint: Any) -> None:
    """Raises :class:`DistillationError` unless a checkpoint has the parts that training saves, and says when."""
    if not isinstance(checkpoint, dict):
        raise DistillationError('is no training checkpoint', path='resume', given=Shown(checkpoint))
    for name in ('meta', 'state_dict', 'message_hub', 'optimizer'):
        if not isinstance(checkpoint.get(name), dict):
            problem = 'is missing' if name not in checkpoint else f'is {Shown(checkpoint[name])!r}'
            raise DistillationError(problem, path=name, accepted='a dict, as training saves it',
                                    hint='A run can be resumed from a checkpoint of its training only; to start from its '
                                    'weights, use load_from without resume.')
    with under('meta'):
        _check_meta(checkpoint['meta'])


def check_parts(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Raises :class:`DistillationError` for the first part of a checkpoint that cannot be gone on from; it is named."""
    with under('message_hub'):
        _check_message_hub(checkpoint['message_hub'])
    models = modules_of(runner)
    with under('state_dict'):
        _check_weights(checkpoint['state_dict'], models['model'].state_dict())
    if 'ema' in models and 'ema_state_dict' in checkpoint:
        with under('ema_state_dict'):
            _check_weights(checkpoint['ema_state_dict'], models['ema'].state_dict())
    with under('optimizer'):
        _check_optimizers(checkpoint['optimizer'], runner.optim_wrapper)
    if runner.param_schedulers is not None:
        with under('param_schedulers'):
            _check_schedulers(checkpoint.get('param_schedulers'), runner.param_schedulers)


def _check_meta(meta: Mapping[str, Any]) -> None:
    for name in ('epoch', 'iter'):
        if name not in meta:
            raise DistillationError('is missing', path=name, accepted=Whole().accepted)
        with under(name):
            Whole().check(meta[name])
    if meta.get('seed') is not None:
        with under('seed'):
            SEEDS.check(meta['seed'])


def _check_message_hub(content: Mapping[str, Any]) -> None:
    for name in ('log_scalars', 'runtime_info', 'resumed_keys'):
        if not isinstance(content.get(name), dict):
            raise DistillationError('is missing' if name not in content else '', path=name,
                                    given=Shown(content.get(name)), accepted='a dict')
    with under('log_scalars'):
        for name, value in content['log_scalars'].items():
            if not isinstance(value, HistoryBuffer):
                raise DistillationError(path=str(name), given=Shown(value), accepted='a HistoryBuffer')
    with under('resumed_keys'):
        Named(Truth()).check(content['resumed_keys'])
    with under('runtime_info'):
        Named(Anything()).check(content['runtime_info'])


def _check_weights(saved: Any, present: Mapping[str, Any]) -> None:
    """Every tensor of the model has to be there, of its shape, and finite where the model's own is."""
    Named(Anything()).check(saved)
    weights = {name.removeprefix('module.') if name not in present else name: value for name, value in saved.items()}
    for name, own in present.items():
        if not isinstance(own, Tensor):
            continue
        if name not in weights:
            raise DistillationError('is missing', path=name, accepted=f'the weight of the model, {Shown(own)!r}')
        floating = own.is_floating_point() or own.is_complex()
        with under(name):
            value = weights[name]
            Array(shape=tuple(own.shape), finite=bool(own.isfinite().all())).check(value)
            if floating != (value.is_floating_point() or value.is_complex()) or (own.dtype == torch.bool) != (
                    value.dtype == torch.bool):
                raise DistillationError(given=Shown(value), accepted=f'a tensor of type {own.dtype}'.replace('torch.', ''))
            Array(finite=bool(own.isfinite().all())).check(value.to(own.dtype))  # 1e300 is infinite in float32


def _check_optimizers(saved: Dict[str, Any], wrapper: Any) -> None:
    if not isinstance(wrapper, OptimWrapperDict):
        OptimizerState(wrapper.optimizer).check(saved)
        return
    for name, each in wrapper.items():
        with under(name):
            OptimizerState(each.optimizer).check(saved.get(name))


def _check_schedulers(saved: Any, present: Any) -> None:
    if isinstance(present, dict):
        for name, schedulers in present.items():
            with under(name):
                _check_schedulers(saved.get(name) if isinstance(saved, dict) else None, schedulers)
        return
    if not isinstance(saved, (list, tuple)) or len(saved) != len(present):
        raise DistillationError(given=Shown(saved), accepted=f'a list of {len(present)} states, one for each scheduler')
    for number, (theirs, ours) in enumerate(zip(saved, present)):
        with under(f'[{number}]'):
            Named(Anything()).check(theirs)
            own = ours.state_dict()
            for name, value in theirs.items():
                if name not in own:
                    raise DistillationError(f'is no entry of a {type(ours).__name__}', path=name, accepted=', '.join(own))
                with under(name):
                    check_alike(value, own[name])
            missing: Sequence[str] = [name for name in own if name not in theirs]
            if missing:
                raise DistillationError('is missing', path=missing[0], accepted='the entries that schedulers save')
