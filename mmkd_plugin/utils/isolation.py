"""Random generators and buffers: their states, and contexts that keep side work from leaving traces in a training run."""
import random
import struct
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, cast

import numpy as np
import torch
from torch import Tensor, nn

PYTHON_WORDS, NUMPY_WORDS = 625, 624

def get_rng_state() -> Dict[str, Any]:
    """The states of Python's, numpy's and torch's global generators, as tensors and plain numbers only.

    The form survives ``torch.save`` and ``torch.load(weights_only=True)``.
    """
    version, python_state, gauss = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 (mm transforms draw from it)
    # numpy's type leaves open whether it is a dict: it is none unless one is asked for.
    name, keys, position, has_gauss, cached = cast(Tuple[str, Any, int, int, float], numpy_state)
    state = dict(
        python=[version, list(python_state), gauss],
        numpy=[name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        torch=torch.get_rng_state())
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: Dict[str, Any], only: Optional[Sequence[str]] = None) -> None:
    """Puts back what :func:`get_rng_state` returned; of the generators named in ``only``, if given."""
    state = {name: value for name, value in state.items() if only is None or name in only}
    if 'python' in state:
        version, python_state, gauss = state['python']
        random.setstate((version, tuple(python_state), gauss))
    if 'numpy' in state:
        name, keys, position, has_gauss, cached = state['numpy']
        numpy_state = (name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached)
        np.random.set_state(numpy_state)  # noqa: NPY002
    if 'torch' in state:
        torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def pack_rng_state() -> Tensor:
    """The states of Python's, numpy's and torch's CPU generators in whole numbers, (N,) of int64, for shared memory."""
    _, python_state, gauss = random.getstate()
    _, keys, position, has_gauss, cached = cast(Tuple[str, Any, int, int, float], np.random.get_state())  # noqa: NPY002
    python = [*python_state, int(gauss is not None), _bits(gauss or 0.0)]
    numpy = [int(position), int(has_gauss), _bits(cached)]
    return torch.cat([torch.tensor(python + numpy), torch.from_numpy(keys.astype(np.int64)),
                      torch.get_rng_state().view(torch.int64)])


def unpack_rng_state(packed: Tensor) -> Dict[str, Any]:
    """What :func:`pack_rng_state` has packed, in the form of :func:`get_rng_state`."""
    python, rest = packed[:PYTHON_WORDS + 2].tolist(), packed[PYTHON_WORDS + 2:]
    position, has_gauss, cached = rest[:3].tolist()
    gauss = _number(python[-1]) if python[-2] else None
    return dict(python=[random.getstate()[0], python[:PYTHON_WORDS], gauss],
                numpy=['MT19937', rest[3:3 + NUMPY_WORDS].clone(), position, has_gauss, _number(cached)],
                torch=rest[3 + NUMPY_WORDS:].clone().view(torch.uint8))


def _bits(number: float) -> int:
    return int(struct.unpack('<q', struct.pack('<d', number))[0])


def _number(bits: int) -> float:
    return float(struct.unpack('<d', struct.pack('<q', bits))[0])


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Whatever is drawn inside leaves every global generator as it was before."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``model.eval()`` inside; afterwards every module has its own previous mode (frozen parts included)."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def preserved_buffers(model: nn.Module) -> Iterator[None]:
    """Every buffer (the running statistics of batch norms) has inside what it has, and afterwards what it had before.

    Backward passes of what is computed inside belong inside: they may want the buffers as they were used.
    """
    buffers = list(model.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before):
                buffer.copy_(value)
