"""From a runner to its student, and to what is attached to it."""
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..utils.errors import DistillationError
from .distillation import Distillation
from .overlay import DistilledMixin


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a DDP wrapper, or the model itself."""
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module), 'a wrapper holds a module'
    return inner


def distilled(runner: Runner) -> DistilledMixin:
    """The student of a runner, out of its DDP wrapper. Raises :class:`DistillationError` if it is not distilled."""
    model = unwrap(runner.model)
    if not isinstance(model, DistilledMixin):
        raise DistillationError("the model is not distilled: mmkd hooks need model=dict(type='mmkd.DistilledModel', ...)",
                                path='model.type', given=type(model).__name__)
    return model


def distillation_of(runner: Runner) -> Distillation:
    """The attached distillation of a runner's model. Raises :class:`DistillationError` if the model has none."""
    distillation = distilled(runner).distillation
    if distillation is None:
        raise DistillationError(f'distillation is not attached: {type(runner).__name__}.train does not do it',
                                hint="Use mmengine's Runner, or call model.attach_distillation() before the optimiser is "
                                'built.')
    return distillation
