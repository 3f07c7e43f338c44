"""``torch.compile`` of a distilled student (the key ``compile`` of a run)."""
from typing import Any

import torch
from mmengine.runner import Runner

from ..distiller import WrapsForward
from ..utils.errors import DistillationError
from .distillation import Distillation
from .step import Step


def prepare_compile(runner: Runner, distillation: Distillation) -> None:
    """Makes a run that compiles its student see the taps, and leaves what belongs to distillation out of it.

    The student's forward is compiled in parts: between the modules that are tapped. Taps are hooks that come and go with
    every forward; without guards on hooks, code that was compiled before they came (``begin``, ``every``) would go past
    them. Teacher and losses run as they are: compiled with the step they would cost compilation again for each distiller
    that begins or ends.

    Args:
        runner: the runner; nothing is done where its config does not ask for ``compile``.
        distillation: what hangs on its student.

    Raises:
        DistillationError: for a distiller that changes the student's forward.
    """
    if not runner.cfg.get('compile'):
        return
    for distiller in distillation.distillers.values():
        if isinstance(distiller, WrapsForward) and distiller.wraps:
            raise DistillationError(
                f'does not go with {distiller.path}, which changes the forward of the student', path='compile',
                given=runner.cfg.compile, accepted='False in such a search; the training that follows can be compiled')
    import torch._dynamo.config

    torch._dynamo.config.skip_nnmodule_hook_guards = False
    _leave_out(Distillation, 'begin')
    _leave_out(Step, 'losses')


def _leave_out(owner: Any, name: str) -> None:
    function = getattr(owner, name)
    if not getattr(function, 'left_out', False):
        disabled: Any = torch.compiler.disable(function)
        disabled.left_out = True
        setattr(owner, name, disabled)
