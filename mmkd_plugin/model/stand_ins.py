"""Distillers that stand for several: what comes in their place, once the networks are known."""
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from ..distiller import Distiller, StandsForSeveral, Surroundings, build_distiller
from ..taps import dry_sample
from ..utils.errors import DistillationError, under
from .teachers import Teachers

Hooks = List[Dict[str, Any]]
"""Configs of hooks."""


def replaced(distillers: Mapping[str, Distiller], student: nn.Module, teachers: Teachers, image_shape: Sequence[int],
             work_dir: Optional[Path]) -> Tuple[Dict[str, Distiller], Hooks]:
    """The distillers of a model, with others in the place of those that stand for several.

    Args:
        distillers: by name, as the config has them.
        student: the model that is trained.
        teachers: the teachers.
        image_shape: (C, H, W) of the image for a look at the networks.
        work_dir: the run's work dir, None outside of a Runner.

    Returns:
        The distillers by name, and the configs of the hooks that they need.

    Raises:
        DistillationError: for a name that is taken, or networks that do not fit; names the distiller.
    """
    found: Dict[str, Distiller] = {}
    hooks: Hooks = []
    for name, distiller in distillers.items():
        if not isinstance(distiller, StandsForSeveral):
            found[name] = distiller
            continue
        image = torch.zeros(1, *image_shape, device=next(student.parameters()).device)
        run_student = partial(_run, student)
        with under(distiller.path):
            made = distiller.stands_for(Surroundings(student, teachers.followed, work_dir, run_student), image)
            taken = next((each for each in made if each != name and (each in distillers or each in found)), None)
            if taken is not None:
                raise DistillationError(f'needs the name {taken!r}, which another distiller has', accepted='other names')
        found.update({each: build_distiller(each, cfg) for each, cfg in made.items()})
        hooks += distiller.hooks(made)
    return found, hooks


def _run(student: nn.Module, image: torch.Tensor) -> None:
    student(image, [dry_sample(image)], mode='tensor')
