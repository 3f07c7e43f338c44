"""Reading checkpoints without executing anything they contain."""
from pathlib import Path
from typing import Dict

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .errors import DistillationError


def register_safe_globals() -> None:
    """Lets ``torch.load(weights_only=True)`` open mmengine's own checkpoints.

    They hold ``HistoryBuffer`` objects with numpy arrays and scalars; from torch 2.6 on mmengine 0.10.7 cannot resume
    them otherwise. Naming these classes keeps the safety on.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    core = np._core if hasattr(np, '_core') else np.core
    scalar_types = {type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool', 'U1')}
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype, *scalar_types, core.multiarray._reconstruct, core.multiarray.scalar,
        # the same functions under the path that numpy 1 wrote
        (core.multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
        (core.multiarray.scalar, 'numpy.core.multiarray.scalar'), getattr])


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
