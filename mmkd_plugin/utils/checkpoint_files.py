"""Opening checkpoints, ours and mmengine's, without executing anything, and without giving a file a say over memory.

``torch.load(weights_only=True)`` refuses what mmengine keeps beside the weights (logs, numbers of numpy), lets a file of a
few bytes take gigabytes, and what is registered as safe is so for the whole process. Here files go through a reader of our
own (``safe_pickle``); ``torch.load`` is left as it is.
"""
import hashlib
import io
import types
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, Set, Union
from urllib.parse import urlsplit

import torch
from mmengine.runner import checkpoint as loading

from .errors import DistillationError
from .safe_pickle import Cut, Refused, UnknownName
from .torch_files import opened, read_torch_file, why_spoiled
from .torch_versions import safe_globals, weights_only_is_safe

__all__ = ['download', 'extend_checkpoint_loader', 'open_checkpoint', 'require_weights', 'why_spoiled']

_HINT_SPOILED = 'Was its writing, or its download, interrupted? Take another, or write it again.'
_TORCHS_OWN = ('torch.distributed.', 'torch._dynamo.', 'torch.nested.')
"""Where torch registers classes of its own as safe, which nobody has asked for."""
_ZOOS = ('download.openmmlab.com', 'mmassets.onedl.ai', 'download.pytorch.org')
_HINT_UNSAFE = ('It was written with more in it than weights and plain values, or somebody has changed it. If it is yours, '
                'write dict(state_dict=model.state_dict()) in its place.')

File = Union[str, Path, io.BytesIO]


def open_checkpoint(path: File, map_location: Any = 'cpu', **how: Any) -> Any:
    """What a checkpoint file holds: tensors, numbers, text, arrays of plain numbers, logs; nothing in it is executed.

    Where it asks for a class or a function that somebody has registered with ``torch.serialization.add_safe_globals``,
    ``torch.load(weights_only=True)`` reads it, which uses what is registered. Before torch 2.6 that is not safe, and the
    file is refused.

    Args:
        path: the file to open, or its contents.
        map_location: as ``torch.load`` has it.
        how: other arguments of ``torch.load``, for that case.

    Raises:
        DistillationError: if the file is missing, is no whole checkpoint, or asks for anything else.
    """
    name = '(contents that were downloaded)' if isinstance(path, io.BytesIO) else str(path)
    try:
        try:
            return _read(path, map_location)
        except UnknownName as error:
            if error.name not in _registered():
                raise
            if not weights_only_is_safe():
                raise Refused(f'{error}, which is registered; what is registered is read safely by torch 2.6 or later only, '
                              f'and this is {torch.__version__}') from None
        return torch.load(_rewound(path), **{**how, 'map_location': map_location, 'weights_only': True})
    except Cut as error:
        raise DistillationError(f'is not a checkpoint that is whole: {error}', given=name, hint=_HINT_SPOILED) from None
    except OSError as error:
        raise DistillationError(f'cannot be read ({error.strerror or error})', given=name,
                                hint='May this user read it, and is it whole?') from None
    except Exception as error:  # whatever a crafted file provokes is one error
        reason = str(error)[:300] or type(error).__name__
        raise DistillationError(f'is not a checkpoint that can be read safely: {reason}', given=name,
                                hint=_HINT_UNSAFE) from None


def _read(path: File, map_location: Any) -> Any:
    if isinstance(path, io.BytesIO):
        return read_torch_file(path, path.getbuffer().nbytes, map_location)
    with opened(path) as (stream, size):
        return read_torch_file(stream, size, map_location)


def _rewound(path: File) -> File:
    if isinstance(path, io.BytesIO):
        path.seek(0)
    return path


def _registered() -> Set[str]:
    """The names that somebody else than torch has registered as safe, as they stand in files."""
    names = (entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}'
             for entry in safe_globals())
    return {name for name in names if not name.startswith(_TORCHS_OWN)}


def download(url: str, folder: Union[str, Path, None] = None, progress: bool = True) -> Path:
    """The file under an http(s) address, as it lies in torch's hub folder; it is downloaded if it is not there.

    A file of the zoos of OpenMMLab, OneDL and PyTorch has its own name there, as they have it. That of any other address has
    the hash of the address in its name too: many are called ``model.pth``.

    Args:
        url: the address.
        folder: where it is kept, if not there.
        progress: whether progress is shown.

    Raises:
        DistillationError: if it cannot be downloaded.
    """
    path = Path(folder or Path(torch.hub.get_dir()) / 'checkpoints') / _cached_name(url)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=progress)
    except (OSError, ValueError, HTTPException) as error:  # URLError and HTTPError included; an address that is none
        raise DistillationError(f'cannot be downloaded ({error})', given=url,
                                hint=f'Download it yourself and give its path, or put it at {path}.') from None
    return path


def _cached_name(url: str) -> str:
    """What the file under an address is called on this machine. Raises :class:`DistillationError` for that of no file."""
    try:
        address = urlsplit(url)
        name, host = PurePosixPath(address.path).name, address.hostname
    except ValueError:
        name, host = '', None
    if not host or name in ('', '..'):
        raise DistillationError('is the address of no file', given=url, accepted='http(s)://HOST/.../FILE')
    if host in _ZOOS:
        return name
    file = PurePosixPath(name)
    return f'{file.stem}-{hashlib.sha256(url.encode(errors="replace")).hexdigest()[:16]}{file.suffix}'


class _SafeTorch(types.ModuleType):
    """``torch`` as mmengine's loaders see it: its ``load`` executes nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: Any, map_location: Any = None, **how: Any) -> Any:
        """``torch.load`` of a file, or of contents in memory."""
        return open_checkpoint(file, map_location, **how)


def _load_url(url: str, model_dir: Any = None, map_location: Any = None, progress: bool = True, **_: Any) -> Any:
    """mmengine's ``load_url``, which is torch's and executes what it downloads."""
    return open_checkpoint(download(url, model_dir, progress), map_location)


def extend_checkpoint_loader() -> None:
    """Lets everything that mmengine loads go through :func:`open_checkpoint`: by path, by address, from a model zoo.

    The Runner, ``init_cfg`` and the codebases' APIs are served. mmengine 0.10.7 cannot open its own training checkpoints on
    torch 2.6 or later, and executes what it downloads. ``torch.load`` itself is left as it is.
    """
    if isinstance(loading.torch, _SafeTorch):
        return
    loading.torch = _SafeTorch('torch')
    loading.load_url = _load_url


def require_weights(content: Any, name: Any) -> None:
    """Raises :class:`DistillationError` unless mmengine can look for weights in a checkpoint: their names have to be text.

    Args:
        content: what the file holds.
        name: the file, for messages.
    """
    state = content.get('state_dict', content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise DistillationError('is not a checkpoint: no weights under "state_dict" or at the top', given=str(name),
                                accepted='a file with weights by name, as training or torch.save leaves it')
