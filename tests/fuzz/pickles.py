"""Checkpoints that somebody has made to harm whoever opens them: what they hold, by name."""
import datetime
import fractions
import io
import os
import pickle
import subprocess
import types
import zipfile
from collections import OrderedDict
from pathlib import Path, PosixPath
from typing import Any, Callable, Dict, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

EXECUTED = 'EXECUTED'
"""A file that the code in a checkpoint makes, if it is executed."""
COMMAND = f'touch {EXECUTED}'


class Call:
    """Pickles as a call: whoever unpickles it makes it."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> Any:
        return (self.function, self.arguments) if self.state is None else (self.function, self.arguments, self.state)


def _of_numpy(*arguments: Any) -> Call:
    return Call(np.ndarray, *arguments)


CALLS: Dict[str, Callable[[], Any]] = {
    'os.system': lambda: Call(os.system, COMMAND),
    'eval': lambda: Call(eval, f'open({EXECUTED!r}, "w")'),
    'exec': lambda: Call(exec, f'open({EXECUTED!r}, "w")'),
    'subprocess': lambda: Call(subprocess.check_output, COMMAND.split()),
    'open': lambda: Call(open, EXECUTED, 'w'),
    'getattr': lambda: Call(getattr, dict, 'mro'),
    'getattr of text': lambda: Call(getattr, '', 'format'),
    '__import__': lambda: Call(__import__, 'os'),
    'torch.load': lambda: Call(torch.load, 'x'),
    'torch.zeros': lambda: Call(torch.zeros, 10 ** 10),
    'torch.save': lambda: Call(torch.save, {}, EXECUTED),
    'bytearray': lambda: Call(bytearray, 10 ** 10),
    'bytes': lambda: Call(bytes, 10 ** 10),
    'list of a range': lambda: Call(list, range(10 ** 9)),
    'range': lambda: range(10 ** 12),
    'a long number': lambda: Call(int, '9' * 10 ** 6),
    'ndarray of objects': lambda: _of_numpy((1,), 'O', b'AAAAAAAA'),
    'a large ndarray of objects': lambda: _of_numpy((2 ** 30,), 'O'),
    'a large ndarray': lambda: _of_numpy((2 ** 33,), 'f8'),
    'an ndarray with another state': lambda: Call(np.empty, 0, state=(1, (2 ** 40,), np.dtype('f8'), False, b'')),
    'an ndarray of text': lambda: np.array(['a', 'bc']),
    'an ndarray of objects in pickle': lambda: np.array([{}, []], dtype=object),
    'a structured ndarray': lambda: np.zeros(2, dtype=[('a', 'i4'), ('b', 'O')]),
    'a dtype': lambda: np.dtype([('a', 'O')]),
    'a large text dtype': lambda: np.dtype('U100000000'),
    'numpy.fromfile': lambda: Call(np.fromfile, '/dev/zero'),
    'HistoryBuffer of numbers': lambda: HistoryBuffer([1.0, 2.0], [1, 1]),
    'HistoryBuffer called': lambda: Call(HistoryBuffer, [1] * 10, [1] * 10, 10 ** 9),
    'HistoryBuffer with another state': lambda: Call(HistoryBuffer, state=dict(_statistics_methods={'x': os.system})),
    'OrderedDict of a list': lambda: Call(OrderedDict, [[5, 5]]),
    'a set': lambda: {1, 2}, 'a frozenset': lambda: frozenset('ab'), 'complex': lambda: 1j, 'slice': lambda: slice(1),
    'a fraction': lambda: fractions.Fraction(1, 3), 'a date': lambda: datetime.datetime(2020, 1, 1),
    'a path': lambda: PosixPath('/etc'), 'a namespace': lambda: types.SimpleNamespace(a=1), 'a class': lambda: dict,
    'a function': lambda: os.system, 'a device': lambda: torch.device('cpu'), 'a dtype of torch': lambda: torch.float16,
    'a size': lambda: torch.Size([2 ** 40]), 'a module': lambda: torch.nn.Linear(2, 2),
    'a generator': lambda: torch.Generator().get_state(), 'a parameter': lambda: torch.nn.Parameter(torch.ones(2)),
    'a number of numpy': lambda: np.float64(1), 'bytes of text': lambda: b'x' * 1000}
"""By name: an object that is put somewhere into a checkpoint."""


def rebuilt(storage: torch.Tensor, offset: int, size: Any, stride: Any) -> Call:
    """A tensor over a storage, with a shape of the file's choice."""
    typed = torch.storage.TypedStorage(wrap_storage=storage.untyped_storage(), dtype=storage.dtype, _internal=True)
    return Call(torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, OrderedDict())


TENSORS: Dict[str, Callable[[torch.Tensor], Any]] = {
    'NaN': lambda value: torch.full_like(value.float(), float('nan')),
    'one NaN': lambda value: value.float().flatten().index_fill(0, torch.tensor([0]), float('nan')).view(value.shape),
    'infinity': lambda value: torch.full_like(value.float(), float('inf')),
    'zeros': torch.zeros_like, 'int8': lambda value: value.to(torch.int8), 'int64': lambda value: value.to(torch.int64),
    'bool': lambda value: value > 0, 'complex': lambda value: value.to(torch.complex64),
    'uint8': lambda value: value.to(torch.uint8), 'half': lambda value: value.half(),
    'bfloat16': lambda value: value.bfloat16(),
    'double': lambda value: value.double(), 'float8': lambda value: value.float().to(torch.float8_e4m3fn),
    'double too large': lambda value: value.double() + 1e300, 'flat': lambda value: value.flatten(),
    'one more': lambda value: torch.stack([value, value]), 'empty': lambda value: value.flatten()[:0],
    'a number': lambda value: float(value.flatten()[0]), 'a list': lambda value: value.tolist(),
    'an ndarray': lambda value: value.detach().numpy(), 'sparse': lambda value: value.float().to_sparse(),
    'meta': lambda value: value.to('meta'), 'transposed': lambda value: value.float().transpose(0, -1),
    'expanded': lambda value: torch.ones(1).expand(10 ** 9),
    'expanded to its shape': lambda value: torch.ones(()).expand(value.shape),
    'a parameter': lambda value: torch.nn.Parameter(value.float()), 'quantised': lambda value: torch.quantize_per_tensor(
        value.float(), .1, 0, torch.qint8),
    'beyond its storage': lambda value: rebuilt(torch.ones(4), 0, (10 ** 6,), (1,)),
    'before its storage': lambda value: rebuilt(torch.ones(4), -8, (4,), (1,)),
    'of negative size': lambda value: rebuilt(torch.ones(4), 0, (-4,), (1,)),
    'with negative strides': lambda value: rebuilt(torch.ones(4), 3, (4,), (-1,)),
    'of huge size': lambda value: rebuilt(torch.ones(4), 0, (2 ** 62, 4), (0, 1)),
    'of a size that is text': lambda value: rebuilt(torch.ones(4), 0, ('4',), (1,)),
    'None': lambda value: None, 'text': lambda value: 'weights', 'a dict': lambda value: dict(value=value)}
"""By name: what becomes of a tensor."""


def bomb(path: Path, content: Any, megabytes: int = 3000) -> None:
    """A checkpoint of less than a megabyte whose storages say that they are large, compressed."""
    plain = io.BytesIO()
    torch.save(content, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target:
        storages = [name for name in source.namelist() if '/data/' in name]
        largest = max(storages, key=lambda name: source.getinfo(name).file_size)
        for name in source.namelist():
            with target.open(name, 'w', force_zip64=True) as entry:
                if name == largest:
                    for _ in range(megabytes):
                        entry.write(bytes(2 ** 20))
                else:
                    entry.write(source.read(name))


def compressed(path: Path, content: Any) -> None:
    """A whole checkpoint, compressed: torch does not read it."""
    plain = io.BytesIO()
    torch.save(content, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))


def without_zip(path: Path, content: Any) -> None:
    """As torch wrote it before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path, content: Any) -> None:
    """A pickle, not written by torch."""
    path.write_bytes(pickle.dumps(content))


def nested(path: Path, content: Any) -> None:
    """A checkpoint with lists in lists, deeper than Python goes: written opcode by opcode."""
    data = b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.'
    buffer = io.BytesIO()
    torch.save({}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            target.writestr(name, data if name.endswith('data.pkl') else source.read(name))


def memo_bomb(path: Path, content: Any) -> None:
    """A pickle in which each list holds the one before ten times: 10^12 items in a few bytes."""
    data = b'\x80\x02]q\x00K\x01a'
    for number in range(1, 13):
        data += b'](' + b'h' + bytes([number - 1]) + (b'h' + bytes([number - 1])) * 9 + b'eq' + bytes([number])
    buffer = io.BytesIO()
    torch.save({}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            target.writestr(name, data + b'.' if name.endswith('data.pkl') else source.read(name))


def saved(content: Any) -> Optional[bytes]:
    """The bytes of a checkpoint; None where something in it cannot be written at all."""
    buffer = io.BytesIO()
    try:
        torch.save(content, buffer)
    except Exception:  # of whatever type: the input is another one then
        return None
    return buffer.getvalue()


WRITERS: Dict[str, Callable[[Path, Any], None]] = {
    'a bomb': bomb, 'compressed': compressed, 'without zip': without_zip, 'a plain pickle': plain_pickle, 'nested': nested,
    'lists of lists': memo_bomb}
"""By name: other ways to write a checkpoint."""
