"""Reading checkpoints without executing anything they contain; writing results whole or not at all."""
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, Union
from uuid import uuid4

from torch import Tensor

from .checkpoint_files import download, open_checkpoint
from .errors import DistillationError, nearest_files, under, unknown_name

UNFINISHED = '.tmp'
"""How the name of a file ends that is not whole yet."""
_RANDOM = 8
LONGEST_FILE_NAME = 255 - len('.') - _RANDOM - len(UNFINISHED)
"""Bytes that the name of a file may have which :func:`whole_file` writes: most file systems take 255, with what it adds."""
_ACCEPTED = 'a path or an http(s) address'


def load_weights(reference: str, key: str) -> Dict[str, Tensor]:
    """The weights in a checkpoint file: name -> tensor, a leading ``module.`` removed.

    Args:
        reference: a path, or an http(s) address (kept in torch's hub folder).
        key: the config key it stands under, for messages.

    Raises:
        DistillationError: if the file is missing, cannot be read safely, or holds no weights.
    """
    with under(key):
        content = open_checkpoint(_local_file(reference))
        state = content.get('state_dict', content) if isinstance(content, dict) else None
        state = state if isinstance(state, dict) else {}
        weights = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        if not weights:
            raise DistillationError('is not a checkpoint: no weights under "state_dict" or at the top', given=str(reference),
                                    accepted='a file with weights by name, as training or torch.save leaves it')
        for name in weights:
            if not isinstance(name, str):
                raise DistillationError(f'has weights under {name!r:.100}', given=str(reference), accepted='names')
    return {name[len('module.'):] if name.startswith('module.') else name: value for name, value in weights.items()}


def existing_file(reference: Any, key: str) -> None:
    """Sees that a checkpoint is there, unless it has to be fetched from somewhere.

    Args:
        reference: a path, or an address of any scheme.
        key: where it stands in the config, for messages.

    Raises:
        DistillationError: for what is no path, or the path of no file; names the nearest checkpoint.
    """
    with under(key):
        if not isinstance(reference, (str, Path)) or '://' not in str(reference):
            _local_file(reference)


def _local_file(reference: Any) -> Path:
    if not isinstance(reference, (str, Path)) or not str(reference) or '\0' in str(reference):
        raise DistillationError(given=reference, accepted=_ACCEPTED)
    scheme, separator, _ = str(reference).partition('://')
    if separator:
        if scheme not in ('http', 'https'):
            raise unknown_name('', scheme, ('http', 'https'), 'Or give a path.', f'is no scheme (of {str(reference)!r})')
        return download(str(reference))
    try:
        path = Path(reference).expanduser()
        if path.is_file():
            return path
        beside = [str(file) for file in path.parent.glob('*.pth')] if path.parent.is_dir() else []
        problem = 'is a folder, not a file' if path.is_dir() else f'was not found (working directory {Path.cwd()})'
        problem = 'is no regular file' if path.exists() and not path.is_dir() else problem
    except (OSError, RuntimeError) as error:  # a name that is too long, a user that is not known
        raise DistillationError(f'cannot be a path ({error})', given=str(reference), accepted=_ACCEPTED) from None
    raise DistillationError(problem, given=str(reference), nearest=nearest_files(path, beside), accepted=_ACCEPTED)


def lines_of(file: Path, most: int, longest: int) -> Iterator[str]:
    """The lines of a text file that anybody may have written; none where it cannot be read.

    Args:
        file: the file.
        most: how many lines are read at most.
        longest: characters of a line; what is longer counts as several.
    """
    try:
        with file.open(errors='replace') as content:
            for _ in range(most):
                line = content.readline(longest)
                if not line:
                    return
                yield line.rstrip('\n')
    except OSError:
        return


def write_whole(path: Path, text: str) -> None:
    """Writes a text file in one go: an interruption leaves the old file or the new one. Makes its folder.

    Raises:
        DistillationError: if it cannot be written; what was begun is removed.
    """
    with whole_file(path) as file:
        file.write(text.encode('utf-8'))


@contextmanager
def whole_file(path: Union[str, Path]) -> Iterator[BinaryIO]:
    """Opens a file to be written whole or not at all, and makes its folder.

    What is written goes into a file beside it (its name and ``UNFINISHED``), which takes its place at the end, once it is
    on the disk. If an error comes from inside, the unfinished file is removed; if the process is killed, it stays.

    Args:
        path: the file to write.

    Raises:
        DistillationError: if it cannot be written: a read-only or missing place, a full disk, no name of a file.
    """
    path = Path(path)
    if not path.name or '\0' in str(path):
        raise DistillationError('is no name of a file', given=str(path))
    unfinished = path.with_name(f'{path.name}.{uuid4().hex[:_RANDOM]}{UNFINISHED}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open('xb') as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:  # an interrupt as well
            with suppress(OSError):
                unfinished.unlink()
            raise
    except OSError as error:
        raise DistillationError(f'cannot be written ({error.strerror or error})', given=str(path),
                                hint='Is there room on the disk, and may this user write there?') from None
    _write_through(path.parent)


def _write_through(folder: Path) -> None:
    """Lets a new name in a folder reach the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
