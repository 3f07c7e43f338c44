"""Training steps of a copy of the student in both memory formats: do they agree, and which is faster?"""
import copy
import math
import time
from contextlib import AbstractContextManager
from typing import Any, Callable, Dict

import torch
from mmengine.dist import broadcast_object_list
from torch import Tensor, nn

from ..distiller.strength import ScaleCalibration
from ..runtime import Timings, interleaved
from ..runtime.memory_format import AGREEMENT, HALF_AGREEMENT, GradientDifferences, set_format
from ..utils.isolation import get_rng_state, set_rng_state
from ..utils.torch_versions import autocast_dtype
from .overlay import DistilledMixin

PLAIN, OTHER = 'plain', 'channels_last'
ROUNDS, SECONDS = 8, 6.0
Context = Callable[[nn.Module], AbstractContextManager[Any]]


class FormatTrial:
    """Training steps of a copy of a model on one batch, in both formats. Draws from the generators.

    In memory it takes what a training step does: weights of the copy are where an optimiser's state would be, and gradients
    are compared as they come.

    Args:
        model: a BaseModel, before the first iteration of its run; it is not changed.
        context: what surrounds the forward pass of a model, autocast say.
        data: a batch as the model's preprocessor gives it.

    Attributes:
        problem: why the copy could not be trained in channels_last as in the plain format; empty where it could.
        difference: the largest relative difference of a gradient.
    """

    def __init__(self, model: nn.Module, context: Context, data: Dict[str, Any]):
        self._started = time.perf_counter()
        self._context, self._data, self._rng = context, data, get_rng_state()
        self.difference, self._half = math.inf, False
        self.problem = self._copy(model) or self._compare()

    @property
    def spent(self) -> float:
        """Seconds since the trial began."""
        return time.perf_counter() - self._started

    def time(self) -> Timings:
        """Times the steps, in as many rounds as there is time for; as many on every rank, which may wait for each other."""
        rounds: int = of_rank_0(min(ROUNDS, max(3, int((SECONDS - self.spent) / self._pair))))
        device = next(self.model.parameters()).device
        # One thread's own time does not count what else a shared machine does; several wait for each other, busily.
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        return interleaved({PLAIN: self._step, OTHER: self._step}, rounds, warmup=0, prepare=self._begin, device=device,
                           clock=clock)

    def _copy(self, model: nn.Module) -> str:
        try:
            self.model: Any = copy.deepcopy(model)
        except (RuntimeError, TypeError, NotImplementedError) as error:
            return f'the model cannot be copied ({error})'
        for module in self.model.modules():
            if isinstance(module, ScaleCalibration):
                module.finish()  # most steps of a run are those after it; nor is a scale of the copy's to be logged
        self._state = _State(self.model)
        return ''

    def _compare(self) -> str:
        """The first steps, which also warm up."""
        self._begin(PLAIN)
        self._step()  # if it fails, so would the run's own
        self._started = time.perf_counter()  # teachers with runtime='auto' have measured in the first step
        found = GradientDifferences(self._gradients())
        self._begin(OTHER)
        try:
            with found.of(self.model):
                self._step()
        except torch.cuda.OutOfMemoryError:
            return 'there is not enough memory for a copy of the model, to try it'
        except RuntimeError as error:
            return f'a step in {OTHER} fails ({str(error).splitlines()[0]})'
        worst, self.difference = found.worst()
        if self.difference > (HALF_AGREEMENT if self._half else AGREEMENT):
            return (f'the gradient of {worst} differs by {self.difference:.2g} from that in the plain format (an operator '
                    'reads memory in the plain order)')
        self._begin(PLAIN)
        started = time.perf_counter()
        self._step()
        self._pair = 2 * (time.perf_counter() - started)
        return ''

    def _gradients(self) -> Dict[str, Tensor]:
        return {name: parameter.grad for name, parameter in self.model.named_parameters() if parameter.grad is not None}

    def _begin(self, name: str) -> None:
        set_format(self.model, name == OTHER)
        self._state.put_back()
        self.model.zero_grad(set_to_none=True)
        set_rng_state(self._rng)

    def _step(self) -> None:
        with self._context(self.model):
            self._half = autocast_dtype(next(self.model.parameters()).device.type) is not None
            losses = self.model._run_forward(self._data, mode='loss')
        self.model.parse_losses(losses)[0].backward()


class _State:
    """What a training forward changes in a model beside its weights: running statistics, the memory of a loss.

    Args:
        model: a model, whose present state is kept.
    """

    def __init__(self, model: nn.Module):
        self._model = model
        self._kept = {name: buffer.clone() for name, buffer in model.named_buffers()}

    @torch.no_grad()
    def put_back(self) -> None:
        """Gives the model the state that was kept."""
        for name, buffer in self._model.named_buffers():
            buffer.copy_(self._kept[name])
        distillation = self._model.distillation if isinstance(self._model, DistilledMixin) else None
        if distillation is not None:  # some modules know on the host what their buffers hold
            place = 'distillation.'
            distillation.load_state_dict({name.removeprefix(place): value for name, value in self._kept.items()
                                          if name.startswith(place)}, strict=False)


def of_rank_0(value: Any) -> Any:
    """What rank 0 has, on every rank."""
    held = [value]
    broadcast_object_list(held)
    return held[0]
