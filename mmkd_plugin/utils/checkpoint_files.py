"""Opening mmengine's checkpoints without executing anything, and without giving a file a say over memory.

They hold ``HistoryBuffer`` objects with numpy arrays and scalars, which ``torch.load(weights_only=True)`` refuses. Naming
numpy's own classes as safe would let a file call them (``numpy.ndarray`` with a shape and a buffer of its choice crashes the
process). So while a file is read, these names stand for small classes that take plain numbers only; what they were given
becomes arrays afterwards.
"""
import functools
import math
import re
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Dict, Iterator, List, NoReturn, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

UNREADABLE = (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError, ImportError, AttributeError, TypeError,
              IndexError, AssertionError, MemoryError, OverflowError)
"""What ``torch.load`` raises for files that are no whole checkpoints, or ask for more than they may."""

_PLAIN = re.compile(r'[?biufU]\d{0,4}')  # truth values, whole numbers, floats, text


class _DType:
    """Stands for ``numpy.dtype``: of plain numbers or text."""

    def __init__(self, kind: Any = None, align: Any = False, copy: Any = False):
        if not isinstance(kind, str) or not _PLAIN.fullmatch(kind):
            _refuse(f'the data type {kind!r}')
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ('<', '>', '|', '='):
            _refuse(f'the byte order {order!r}')
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for ``numpy.ndarray``: made empty, filled with as many bytes as its shape wants."""

    array: np.ndarray

    def __init__(self, *arguments: Any):
        if arguments:
            _refuse('an array that is made from arguments')

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _DType) or not isinstance(data, bytes) or not all(
                isinstance(side, int) and side >= 0 for side in shape):
            _refuse('an array of something else than plain numbers')
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            _refuse(f'an array of shape {tuple(shape)} in {len(data)} bytes')
        self.array = np.frombuffer(data, kind.dtype).reshape(shape, order='F' if fortran else 'C').copy()


class _Buffer:
    """Stands for ``HistoryBuffer``: a log of one value."""

    def __init__(self, *arguments: Any):
        if arguments:
            _refuse('a HistoryBuffer that is made from arguments')

    def __setstate__(self, state: Any) -> None:
        self.parts = [state['_log_history'], state['_count_history']]
        self.length = state['max_length']
        logs = all(isinstance(part, _Array) and part.array.ndim == 1 for part in self.parts)
        if not logs or not isinstance(self.length, int):
            _refuse('a HistoryBuffer without two logs and a length')

    def real(self) -> HistoryBuffer:
        """The buffer; it has the statistics of its class, not any that the file names."""
        values, counts = (part.array for part in self.parts)
        buffer = HistoryBuffer(max_length=self.length)
        buffer._log_history, buffer._count_history = values, counts
        return buffer


def _reconstruct(*arguments: Any) -> _Array:
    """Stands for numpy's function of the same name, with which every pickled array begins."""
    return _Array()


def _scalar(kind: Any, data: Any) -> Any:
    """Stands for numpy's ``scalar``."""
    if not isinstance(kind, _DType) or not isinstance(data, bytes) or len(data) != kind.dtype.itemsize:
        _refuse('a number of another size than its type')
    return np.frombuffer(data, kind.dtype)[0]


def _statistics(owner: Any, name: Any) -> str:
    """Stands for ``getattr``, with which a HistoryBuffer names its statistics: a name, which is not looked at."""
    if owner is not _Buffer or not isinstance(name, str) or name.startswith('_'):
        _refuse(f'the attribute {name!r} of {owner!r}')
    return name


def _no_bytes(*arguments: Any) -> bytes:
    """Stands for ``bytes``, with which the data of an empty array is pickled."""
    if arguments:
        _refuse('bytes that are made from arguments')
    return b''


def _refuse(what: str) -> NoReturn:
    raise UnpicklingError(f'it asks for {what}')


_MULTIARRAY = ('numpy._core.multiarray', 'numpy.core.multiarray')  # numpy 2, numpy 1
_STAND_INS: List[Any] = [
    (_Buffer, 'mmengine.logging.history_buffer.HistoryBuffer'), (_Array, 'numpy.ndarray'), (_DType, 'numpy.dtype'),
    (_statistics, 'builtins.getattr'), (_no_bytes, 'builtins.bytes'),
    *((_reconstruct, f'{module}._reconstruct') for module in _MULTIARRAY),
    *((_scalar, f'{module}.scalar') for module in _MULTIARRAY)]


@contextmanager
def _stand_ins() -> Iterator[None]:
    with torch.serialization.safe_globals(_STAND_INS):
        yield


def open_checkpoint(path: Union[str, Path], map_location: Any = 'cpu') -> Any:
    """What a checkpoint file holds: tensors, numbers, text, arrays of plain numbers, logs; nothing in it is executed.

    Args:
        path: the file to open.
        map_location: as ``torch.load`` has it.

    Raises:
        Exception: one of ``UNREADABLE`` for a file that is no whole checkpoint, or asks for anything else.
    """
    with _stand_ins():
        content = torch.load(path, map_location=map_location, weights_only=True)
    return _real(content, {})


def _real(value: Any, seen: Dict[int, Any]) -> Any:
    """The value with arrays and buffers in place of what stood for them; dicts and lists are changed in place."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Buffer):
        return value.real()
    if isinstance(value, _DType):
        return value.dtype
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = value
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _real(item, seen)
    elif isinstance(value, list):
        value[:] = [_real(item, seen) for item in value]
    elif type(value) is tuple:
        seen[id(value)] = tuple(_real(item, seen) for item in value)
    return seen[id(value)]


def extend_checkpoint_loader() -> None:
    """Lets mmengine open its own training checkpoints, plain or distilled, with the safety on.

    mmengine 0.10.7 cannot on torch 2.6 or later, where ``weights_only`` is the default. Everything that loads through
    mmengine (the Runner, ``init_cfg``, the codebases' APIs) is served; ``torch.load`` itself is left as it is.
    """
    if getattr(CheckpointLoader, 'opens_training_checkpoints', False):
        return
    load = CheckpointLoader.load_checkpoint.__func__

    @functools.wraps(load)
    def load_checkpoint(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with _stand_ins():
            content = load(cls, *args, **kwargs)
        return _real(content, {})

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)
    CheckpointLoader.opens_training_checkpoints = True
