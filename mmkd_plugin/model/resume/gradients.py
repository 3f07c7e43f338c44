"""Gradients that are being accumulated: a checkpoint may be saved between two steps of the optimiser."""
from typing import Any, Dict, Mapping

from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from ..student import distillation_of, unwrap


def accumulated_gradients(runner: Runner) -> Dict[str, Tensor]:
    """The gradients, by name of the parameter, that wait for the optimiser's step; none where it steps every time."""
    if not _accumulates(runner.optim_wrapper):
        return {}
    idle = distillation_of(runner).idle.parameters
    return {name: parameter.grad.detach().cpu().clone() for name, parameter in unwrap(runner.model).named_parameters()
            if parameter.grad is not None and parameter not in idle}


def give_back_gradients(runner: Runner, gradients: Mapping[str, Tensor]) -> None:
    """Puts the gradients back that were waiting when the checkpoint was saved."""
    if not _accumulates(runner.optim_wrapper):
        return
    for name, parameter in unwrap(runner.model).named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device, parameter.dtype).clone()


def _accumulates(wrapper: Any) -> bool:
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return any(getattr(each, '_accumulative_counts', 1) > 1 for each in wrappers)
