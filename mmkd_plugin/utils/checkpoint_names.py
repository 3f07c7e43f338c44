"""What the names in a checkpoint stand for: tensors, arrays of plain numbers, logs, ordered dicts; nothing else.

Each takes plain values only and counts what it makes, so that no file has a say over memory: a tensor lies within the bytes
that the file has for it, an array has as many bytes as its shape wants.
"""
import math
import re
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NoReturn, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from torch import Tensor

from .safe_pickle import Budget, Maker, Part, Refused, check_key
from .torch_versions import LATER_DTYPES

_PLAIN = re.compile(r'[?biufU]\d{0,4}')  # numpy's truth values, whole numbers, floats, text
_DEVICE = re.compile(r'[a-z]{1,16}(:\d{1,4})?')
_STORAGES = dict(Double=torch.float64, Float=torch.float32, Half=torch.float16, BFloat16=torch.bfloat16, Long=torch.int64,
                 Int=torch.int32, Short=torch.int16, Char=torch.int8, Byte=torch.uint8, Bool=torch.bool,
                 ComplexDouble=torch.complex128, ComplexFloat=torch.complex64)
_OTHER_DTYPES = (*LATER_DTYPES, torch.float8_e4m3fn, torch.float8_e5m2)
_MULTIARRAY = ('numpy._core.multiarray', 'numpy.core.multiarray')  # numpy 2, numpy 1
_LOG = 'mmengine.logging.history_buffer.HistoryBuffer'
_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'
_ANNEALING: Dict[str, Callable[..., Any]] = dict(_annealing_cos=OneCycleLR._annealing_cos,
                                                 _annealing_linear=OneCycleLR._annealing_linear)
"""The functions that mmengine's schedule of one cycle keeps in its state. No file can call them, or name others."""
_MOST_DIMENSIONS = 32


@dataclass(frozen=True, eq=False)
class Storage(Part):
    """Some bytes of a file, as numbers of one type."""
    untyped: torch.UntypedStorage
    dtype: torch.dtype


class Names:
    """The names of one file.

    Args:
        storage: (key, type of its numbers, location, bytes) -> the storage that a file has under a key.
        size: how large the file is, in bytes.
    """

    def __init__(self, storage: Callable[[str, torch.dtype, str, int], torch.UntypedStorage], size: int):
        self.storage = storage
        self.made = Budget(4 * size + 2 ** 20, 'arrays and dicts')
        self.elements = Budget(8 * size + 2 ** 26, 'elements of tensors')
        self.unfinished: Dict[int, Any] = {}
        """By id: arrays and their types that have been begun, and not got their state yet."""
        self.table = self._table()

    def _table(self) -> Dict[str, Any]:
        makers: Dict[str, Callable[..., Any]] = {
            'torch._utils._rebuild_tensor': self.tensor, 'torch._utils._rebuild_tensor_v2': self.tensor,
            'torch._utils._rebuild_tensor_v3': self._typed_tensor, 'torch._utils._rebuild_parameter': parameter,
            'torch._utils._rebuild_parameter_with_state': parameter, 'torch._tensor._rebuild_from_type_v2': with_attributes,
            'torch.Tensor': _never, 'torch.nn.parameter.Parameter': _never, 'torch.Size': shape, 'torch.device': device,
            'collections.OrderedDict': self.ordered_dict, 'collections.Counter': self._counter, 'builtins.set': self.set_of,
            'mmengine.config.config.ConfigDict': self.plain_dict,
            _LOG: log, _ONE_CYCLE: _never, 'builtins.getattr': attribute,
            'numpy.ndarray': _never, 'numpy.dtype': self.array_type, '_codecs.encode': self.encode,
            'builtins.bytes': no_bytes,
            **{f'{module}._reconstruct': self.array for module in _MULTIARRAY},
            **{f'{module}.scalar': self.scalar for module in _MULTIARRAY}}
        table: Dict[str, Any] = {name: Maker(name, make) for name, make in makers.items()}
        for module in ('torch', 'torch.cuda'):
            table.update({f'{module}.{name}Storage': dtype for name, dtype in _STORAGES.items()})
        table.update({str(dtype): dtype for dtype in (*_STORAGES.values(), *_OTHER_DTYPES)})
        table['torch.storage.UntypedStorage'] = torch.uint8
        table.update({f'{_ONE_CYCLE}.{name}': function for name, function in _ANNEALING.items()})
        return table

    def persistent(self, reference: Any) -> Storage:
        """The storage that a pickle refers to."""
        known = isinstance(reference, tuple) and len(reference) in (5, 6)  # before torch 1.6 with a view of it, or None
        kind, dtype, key, location, count, *view = reference if known else [0] * 5
        if kind != 'storage' or not isinstance(dtype, torch.dtype) or not _whole(count) or any(view):
            raise Refused('it refers to something that is no storage')
        if not isinstance(key, (str, int)) or not isinstance(location, str):
            raise Refused('it refers to a storage without a name')
        return Storage(self.storage(str(key), dtype, location, count * dtype.itemsize), dtype)

    def build(self, target: Any, state: Any) -> None:
        """Gives an object that has been begun its state."""
        if type(target) is OrderedDict:
            _set_metadata(target, state)
        elif isinstance(target, np.dtype):
            self._order(target, state)
        elif type(target) is np.ndarray:
            self._fill(target, state)
        elif type(target) is HistoryBuffer:
            self._fill_log(target, state)
        else:
            raise Refused(f'it gives a {type(target).__name__} a state')

    def finish(self) -> None:
        """Raises :class:`Refused` if an array was begun and not filled."""
        if self.unfinished:
            raise Refused('it holds an array without contents')

    # --- torch

    def tensor(self, storage: Any, offset: Any, sides: Any, steps: Any, requires_grad: Any = False, hooks: Any = None,
               metadata: Any = None, dtype: Optional[torch.dtype] = None) -> Tensor:
        """A tensor that lies within its storage; hooks are left out."""
        if type(storage) is not Storage or metadata or type(requires_grad) is not bool:
            _refuse('a tensor that is no plain one')
        dtype = dtype or storage.dtype
        shaped = _plain_tuple(sides) and _plain_tuple(steps) and len(sides) == len(steps) <= _MOST_DIMENSIONS
        if not shaped or not _whole(offset):
            _refuse('a tensor without a shape')
        count = math.prod(sides)
        last = offset + sum((side - 1) * step for side, step in zip(sides, steps)) if count else 0
        available = storage.untyped.nbytes()
        if (last + 1 if count else 0) * dtype.itemsize > available:
            _refuse(f'a tensor of shape {tuple(sides)} in {available} bytes')
        self.elements.spend(count * dtype.itemsize)
        tensor = torch.empty((0,), dtype=dtype, device=storage.untyped.device)
        tensor.set_(storage.untyped, offset, tuple(sides), tuple(steps))
        return tensor.requires_grad_() if requires_grad else tensor

    def _typed_tensor(self, storage: Any, offset: Any, sides: Any, steps: Any, requires_grad: Any, hooks: Any, dtype: Any,
                     metadata: Any = None) -> Tensor:
        """A tensor of a type that no storage has."""
        if not isinstance(dtype, torch.dtype):
            _refuse('a tensor without a type')
        return self.tensor(storage, offset, sides, steps, requires_grad, hooks, metadata, dtype)

    # --- containers

    def ordered_dict(self, pairs: Any = ()) -> 'OrderedDict[Any, Any]':
        """An ordered dict, empty or of [key, value] as Python 2 wrote it."""
        return OrderedDict(self.plain_dict(pairs))

    def _counter(self, counts: Any = ()) -> 'Counter[Any]':
        """A dict of counts, as the milestones of a schedule are kept."""
        return Counter(self.plain_dict(counts))

    def plain_dict(self, items: Any = ()) -> Dict[Any, Any]:
        """A dict, of another or of pairs."""
        if type(items) not in (dict, list, tuple):
            _refuse('a dict of something else than keys and values')
        self.made.spend(128 * len(items))
        made = dict(items)
        for key in made:
            check_key(key)
        return made

    def set_of(self, items: Any = ()) -> Any:
        """A set of plain keys."""
        if type(items) not in (list, tuple):
            _refuse('a set of something else than a list')
        self.made.spend(128 * len(items))
        for item in items:
            check_key(item)
        return set(items)

    # --- numpy and logs

    def array_type(self, kind: Any, align: Any = False, copy: Any = False) -> 'np.dtype[Any]':
        """``numpy.dtype`` of plain numbers or text; its byte order comes with its state."""
        if type(kind) is not str or not _PLAIN.fullmatch(kind):
            _refuse(f'the data type {str(kind)[:50]!r}')
        made = np.dtype(kind, copy=True)
        self.unfinished[id(made)] = made
        return made

    def _order(self, target: 'np.dtype[Any]', state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ('<', '>', '|', '=') or self.unfinished.pop(id(target), None) is None:
            _refuse('a data type without a byte order')
        target.__setstate__(target.newbyteorder(order).__reduce__()[2])  # type: ignore[attr-defined]  # numpy has no stub of it

    def _is_type(self, value: Any) -> bool:
        return isinstance(value, np.dtype) and id(value) not in self.unfinished

    def array(self, *arguments: Any) -> np.ndarray:
        """What every pickled array begins with: an empty one."""
        made = np.empty(0, np.int8)
        self.unfinished[id(made)] = made
        return made

    def _fill(self, target: np.ndarray, state: Any) -> None:
        _, sides, kind, fortran, data = state
        plain = self._is_type(kind) and type(data) is bytes and _plain_tuple(sides) and len(sides) <= _MOST_DIMENSIONS
        if not plain or self.unfinished.pop(id(target), None) is None:
            _refuse('an array of something else than plain numbers')
        if math.prod(sides) * kind.itemsize != len(data):
            _refuse(f'an array of shape {tuple(sides)} in {len(data)} bytes')
        self.made.spend(len(data))
        target.__setstate__((1, tuple(sides), kind, bool(fortran), data))  # type: ignore[arg-type]  # numpy's stub: its own bool

    def scalar(self, kind: Any, data: Any) -> Any:
        """One number of numpy, or one text."""
        if not self._is_type(kind) or type(data) is not bytes or len(data) != kind.itemsize:
            _refuse('a number of another size than its type')
        self.made.spend(len(data))
        return np.frombuffer(data, kind)[0]

    def encode(self, text: Any, encoding: Any) -> bytes:
        """Bytes, as protocol 2 writes them: text of one byte a letter."""
        if type(text) is not str or encoding not in ('latin1', 'latin-1'):
            _refuse('bytes in an encoding of its own')
        self.made.spend(len(text))
        return text.encode('latin-1')

    def _fill_log(self, target: HistoryBuffer, state: Any) -> None:
        logs: List[Any] = [state['_log_history'], state['_count_history']]
        plain = all(type(log) is np.ndarray and id(log) not in self.unfinished and log.ndim == 1 and log.dtype.kind in 'biuf'
                    for log in logs)
        if not plain or len(logs[0]) != len(logs[1]) or not _whole(state['max_length']):
            _refuse('a HistoryBuffer without two logs and a length')
        # It keeps the statistics of its class, not any that the file names.
        target._log_history, target._count_history = logs
        target.max_length = state['max_length']


def parameter(data: Any, requires_grad: Any, hooks: Any = None, state: Any = None) -> torch.nn.Parameter:
    """A parameter; hooks and attributes are left out."""
    if type(data) is not Tensor or type(requires_grad) is not bool:
        _refuse('a parameter of something else than a tensor')
    return torch.nn.Parameter(data, requires_grad)


def with_attributes(rebuild: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor on which Python code had put attributes; they are left out."""
    plain = type(rebuild) is Maker and rebuild.name.startswith('torch._utils.') and type(arguments) is tuple
    if not plain or type(kind) is not Maker or kind.name not in ('torch.Tensor', 'torch.nn.parameter.Parameter'):
        _refuse('a tensor of a class of its own')
    return rebuild.make(*arguments)


def shape(sides: Any = ()) -> torch.Size:
    """The shape of a tensor."""
    if not _plain_tuple(sides):
        _refuse('a shape of something else than numbers')
    return torch.Size(sides)


def device(kind: Any, index: Any = None) -> torch.device:
    """A device by its name."""
    if type(kind) is not str or not _DEVICE.fullmatch(kind) or not (index is None or _whole(index)):
        _refuse('a device without a name')
    return torch.device(kind) if index is None else torch.device(kind, index)


def log() -> HistoryBuffer:
    """An empty log of one value."""
    return HistoryBuffer()


def attribute(owner: Any, name: Any) -> Any:
    """Stands for ``getattr``, with which a HistoryBuffer names its statistics: a name, which is not looked at.

    A schedule of one cycle names one of two functions with it.
    """
    if type(owner) is Maker and owner.name == _ONE_CYCLE and type(name) is str and name in _ANNEALING:
        return _ANNEALING[name]
    if type(owner) is not Maker or owner.name != _LOG or type(name) is not str or name.startswith('_'):
        _refuse(f'the attribute {str(name)[:50]!r} of {getattr(owner, "name", type(owner).__name__)}')
    return name


def no_bytes() -> bytes:
    """Stands for ``bytes``, with which the data of an empty array is pickled."""
    return b''


def _set_metadata(target: 'OrderedDict[Any, Any]', state: Any) -> None:
    """Gives a dict of weights what ``Module.state_dict`` hangs on it: the versions of the modules."""
    metadata = state.get('_metadata') if isinstance(state, dict) else None
    if not isinstance(metadata, dict) or not all(
            type(name) is str and isinstance(local, dict) and type(local.get('version')) in (int, type(None))
            for name, local in metadata.items()):
        _refuse('a dict with other attributes than the versions of modules')
    target._metadata = OrderedDict((name, dict(local)) for name, local in metadata.items())  # type: ignore[attr-defined]  # as torch does


def _never(*arguments: Any) -> NoReturn:
    raise Refused('it asks for an object that is made from arguments of its own choice')


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2 ** 48


def _plain_tuple(values: Any) -> bool:
    return isinstance(values, (tuple, list)) and all(map(_whole, values))


def _refuse(what: str) -> NoReturn:
    raise Refused(f'it asks for {what}')


