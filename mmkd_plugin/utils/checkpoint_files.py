"""Opening checkpoints, ours and mmengine's, without executing anything, and without giving a file a say over memory.

``torch.load(weights_only=True)`` refuses what mmengine keeps beside the weights (logs, numbers of numpy), lets a file of a
few bytes take gigabytes, and what is registered as safe is so for the whole process. Here files go through a reader of our
own (``safe_pickle``); ``torch.load`` is left as it is.
"""
import functools
import io
import types
from http.client import HTTPException
from pathlib import Path
from typing import Any, Dict, Union

import torch
from mmengine.runner import checkpoint as loading
from mmengine.runner.checkpoint import CheckpointLoader

from .errors import DistillationError
from .safe_pickle import Cut
from .torch_files import opened, read_torch_file, why_spoiled

__all__ = ['download', 'extend_checkpoint_loader', 'open_checkpoint', 'why_spoiled']

_HINT_SPOILED = 'Was its writing, or its download, interrupted? Take another, or write it again.'
_HINT_UNSAFE = ('It was written with more in it than weights and plain values, or somebody has changed it. If it is yours, '
                'write dict(state_dict=model.state_dict()) in its place.')


def open_checkpoint(path: Union[str, Path, io.BytesIO], map_location: Any = 'cpu') -> Any:
    """What a checkpoint file holds: tensors, numbers, text, arrays of plain numbers, logs; nothing in it is executed.

    Args:
        path: the file to open, or its contents.
        map_location: as ``torch.load`` has it.

    Raises:
        DistillationError: if the file is missing, is no whole checkpoint, or asks for anything else.
    """
    name = '(contents that were downloaded)' if isinstance(path, io.BytesIO) else str(path)
    try:
        if isinstance(path, io.BytesIO):
            return read_torch_file(path, path.getbuffer().nbytes, map_location)
        with opened(path) as (stream, size):
            return read_torch_file(stream, size, map_location)
    except Cut as error:
        raise DistillationError(f'is not a checkpoint that is whole: {error}', given=name, hint=_HINT_SPOILED) from None
    except OSError as error:
        raise DistillationError(f'cannot be read ({error.strerror or error})', given=name) from None
    except Exception as error:  # whatever a crafted file provokes is one error
        reason = str(error)[:300] or type(error).__name__
        raise DistillationError(f'is not a checkpoint that can be read safely: {reason}', given=name,
                                hint=_HINT_UNSAFE) from None


def download(url: str, folder: Union[str, Path, None] = None, progress: bool = True) -> Path:
    """The file under an http(s) address, as it lies in torch's hub folder; it is downloaded if it is not there.

    Args:
        url: the address.
        folder: where it is kept, if not there.
        progress: whether progress is shown.

    Raises:
        DistillationError: if it cannot be downloaded.
    """
    path = Path(folder or Path(torch.hub.get_dir()) / 'checkpoints') / url.split('?')[0].rsplit('/', 1)[-1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=progress)
        except (OSError, ValueError, HTTPException) as error:  # URLError and HTTPError included; an address that is none
            raise DistillationError(f'cannot be downloaded ({error})', given=url,
                                    hint=f'Download it yourself and give its path, or put it at {path}.') from None
    return path


class _SafeTorch(types.ModuleType):
    """``torch`` as mmengine's loaders see it: its ``load`` executes nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: Any, map_location: Any = None, **_: Any) -> Any:
        """``torch.load`` of a file, or of contents in memory."""
        return open_checkpoint(file, map_location)


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
    load = CheckpointLoader.load_checkpoint.__func__

    @functools.wraps(load)
    def load_checkpoint(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return _with_weights(load(cls, *args, **kwargs), args[0] if args else kwargs.get('filename'))

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


def _with_weights(content: Any, name: Any) -> Any:
    """The content of a checkpoint, if mmengine can look for weights in it: their names have to be text."""
    state: Dict[Any, Any] = content.get('state_dict', content) if isinstance(content, dict) else {0: None}
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise DistillationError('is not a checkpoint: no weights under "state_dict" or at the top', given=str(name))
    return content
