"""The teacher's weights: all of them, from a checkpoint that is read without executing anything."""
import hashlib
from typing import Sequence

import torch
from mmengine.logging import print_log
from torch import nn

from ..utils.errors import DistillationError
from ..utils.files import load_weights

KEY = 'checkpoint'


def load_teacher_weights(model: nn.Module, checkpoint: str) -> None:
    """Loads a checkpoint that must cover every weight of ``model``. Raises :class:`DistillationError` otherwise."""
    state = load_weights(checkpoint, KEY)
    wanted = model.state_dict()
    try:
        # Through the modules' own hooks: they may rename keys and resize position embeddings.
        result = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
        raise _not_covered(checkpoint, model, 'Of another shape', wrong, len(wanted)) from None
    missing = [name for name in result.missing_keys if not name.endswith('num_batches_tracked')]
    if missing:
        raise _not_covered(checkpoint, model, 'Missing', missing, len(wanted))
    if result.unexpected_keys:
        print_log(f'teacher: {len(result.unexpected_keys)} weights of the file are not in the teacher and are not used '
                  f'({", ".join(result.unexpected_keys[:3])}, ...)', 'current')


def _not_covered(checkpoint: str, model: nn.Module, label: str, names: Sequence[str], wanted: int) -> DistillationError:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return DistillationError(
        f'covers {wanted - len(names)} of the {wanted} weights of the teacher ({type(model).__name__}); all are needed. '
        f'{label}: {", ".join(names[:5])}{more}', path=KEY, given=str(checkpoint),
        hint='Is it the checkpoint of model.teacher.config?')


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
