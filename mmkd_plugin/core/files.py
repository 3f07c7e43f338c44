"""Reading checkpoints without executing anything they contain."""
from pathlib import Path
from typing import Dict

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version
from torch import Tensor

from .errors import DistillationError


def register_safe_globals() -> None:
    """Lets ``torch.load(weights_only=True)`` open mmengine's own checkpoints.

    They hold ``HistoryBuffer`` objects with numpy arrays and scalars; from torch 2.6 on, where ``weights_only`` is the
    default, mmengine 0.10.7 cannot resume them otherwise. Naming these classes keeps the safety on. Before 2.6 torch
    cannot be told, and mmengine does not need it.
    """
    if digit_version(torch.__version__) < digit_version('2.6'):
        return
    core = np._core if hasattr(np, '_core') else np.core
    scalar_types = {type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool', 'U1')}
    functions = (core.multiarray._reconstruct, core.multiarray.scalar)
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype, *scalar_types,
        # numpy 2 and numpy 1 name the same functions differently
        *((function, f'{module}.multiarray.{function.__name__}')
          for function in functions for module in ('numpy._core', 'numpy.core')),
        (_statistics_method, 'builtins.getattr')])


def _statistics_method(owner, name: str):
    """What ``getattr`` may do in a checkpoint: name a statistics method of HistoryBuffer, which these buffers hold."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(f'the checkpoint asks for the attribute {name!r} of {owner!r}')
    return getattr(owner, name)


def load_weights(reference: str, key: str) -> Dict[str, Tensor]:
    """The weights in a checkpoint file: name -> tensor, a leading ``module.`` removed.

    Args:
        reference: a path, or an http(s) address (kept in torch's hub folder).
        key: the config key it stands under, for messages.

    Raises:
        DistillationError: if the file is missing, cannot be read safely, or holds no weights.
    """
    path = Path(_download(reference) if reference.startswith(('http://', 'https://')) else reference)
    if not path.is_file():
        raise DistillationError(f'{key}: file {reference!r} not found (working directory {Path.cwd()}).')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, ImportError, AttributeError) as error:
        raise _unreadable(key, reference, error) from None
    except Exception as error:
        # pickle.UnpicklingError and its kin: whatever else a file that is no checkpoint can raise
        if type(error).__module__ not in ('_pickle', 'pickle', 'zipfile'):
            raise
        raise _unreadable(key, reference, error) from None
    state = content.get('state_dict', content) if isinstance(content, dict) else None
    weights = {name: value for name, value in state.items() if isinstance(value, Tensor)} if state else {}
    if not weights:
        raise DistillationError(f'{key}: {reference!r} is not a checkpoint: no weights under "state_dict" or at the top.')
    return {name[len('module.'):] if name.startswith('module.') else name: value for name, value in weights.items()}


def _unreadable(key, reference, error) -> DistillationError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DistillationError(f'{key}: {reference!r} is not a checkpoint that can be read safely ({reason}).')


def _download(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / 'checkpoints' / url.split('?')[0].rsplit('/', 1)[-1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))
    return path
