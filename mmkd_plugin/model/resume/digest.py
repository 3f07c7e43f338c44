"""A digest of what a checkpoint holds: whether it is what was saved."""
import hashlib
import struct
from typing import Any

import torch
from torch import Tensor

from ...utils.errors import DistillationError


def digest(value: Any) -> str:
    """SHA-256 over plain data in one order, whatever the order of keys; of tensors type, shape and numbers.

    Args:
        value: tensors, numbers, text, None, lists and dicts of them.

    Raises:
        DistillationError: for anything else.
    """
    sha = hashlib.sha256()
    _add(sha, value)
    return sha.hexdigest()


def _add(sha: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        number = value.detach().cpu().contiguous()
        _mark(sha, 't', f'{number.dtype}{tuple(number.shape)}')
        sha.update(number.flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        _mark(sha, 'd', str(len(value)))
        for key in sorted(value, key=lambda name: (type(name).__name__, str(name))):
            _add(sha, key)
            _add(sha, value[key])
    elif isinstance(value, (list, tuple)):
        _mark(sha, 'l', str(len(value)))
        for item in value:
            _add(sha, item)
    elif isinstance(value, float):
        _mark(sha, 'f', struct.pack('<d', value).hex())
    elif value is None or isinstance(value, (bool, int, str)):
        _mark(sha, type(value).__name__, str(value))
    else:
        raise DistillationError(f'{type(value).__name__} cannot be kept in a checkpoint', path='mmkd',
                                accepted='tensors, numbers, text, None, lists and dicts of them')


def _mark(sha: Any, kind: str, text: str) -> None:
    content = text.encode('utf-8', 'surrogatepass')
    sha.update(f'{kind}{len(content)}:'.encode())
    sha.update(content)
