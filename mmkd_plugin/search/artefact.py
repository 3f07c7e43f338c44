"""The files that searches write: JSON, readable, checked when they are read; nothing in them is executed."""
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from ..utils.errors import DistillationError, nearest_files, unknown_name
from ..utils.files import write_whole
from ..utils.options import FLOAT32_MOST

LARGEST = 64 * 2 ** 20
"""Bytes: a search writes less than a 60th of it."""
DEEPEST = 50
LONGEST_NAME = 1000
"""Letters, of the name of a tap or a group."""


@dataclass(frozen=True)
class ArtefactFormat:
    """One kind of file.

    Attributes:
        name, version: as they stand in the file under ``format`` and ``version``.
        keys: the other keys of the file.
        instead: what may be given in place of a file, for messages.
        names: words that may be given in place of a file; a path that is not found may be one of them, misspelt.
        older: by older versions that are read too, their keys.
    """
    name: str
    version: int
    keys: Tuple[str, ...]
    instead: str
    names: Sequence[str] = ()
    older: Mapping[int, Tuple[str, ...]] = field(default_factory=dict)

    def write(self, path: Path, content: Mapping[str, Any], version: Optional[int] = None) -> None:
        """Writes a file, in one go; makes its folder.

        Args:
            path: the file to write.
            content: what stands under each key.
            version: an older one, whose keys these are; by default the present one.
        """
        write_whole(path, readable_json(dict(format=self.name, version=version or self.version, **content)))

    def read(self, path: Any) -> Dict[str, Any]:
        """Reads a file and checks its frame; what its keys hold is checked by whoever uses it.

        Args:
            path: the file to read.

        Raises:
            DistillationError: if it is missing, larger than 64 MB, no whole JSON, of another format or version, or holds
                other keys or numbers that are not finite.
        """
        content = parsed(self.find(path), path)
        if not isinstance(content, dict) or content.get('format') != self.name:
            given = content.get('format') if isinstance(content, dict) else type(content).__name__
            raise _unfit(path, f'has the format {given!r:.200}', f'format {self.name!r}')
        versions, version = {**self.older, self.version: self.keys}, content.get('version')
        if type(version) is not int or version not in versions:
            raise _unfit(path, f'has version {version!r:.200}', ' or '.join(map(str, versions)))
        keys = ('format', 'version', *versions[version])
        for name in content:
            if name not in keys:
                raise unknown_name('', name[:200], keys, f'File: {str(path)!r}', 'is no key here')
        missing = [name for name in keys if name not in content]
        if missing:
            raise _unfit(path, f'has no {" and no ".join(missing)}', ', '.join(keys))
        return content

    def find(self, path: Any) -> Path:
        """The file. Raises :class:`DistillationError` if there is none, with the nearest that is there."""
        if path is None:
            raise DistillationError('is missing', accepted=self.instead)
        file = Path(path) if isinstance(path, (str, Path)) and str(path) and '\0' not in str(path) else None
        nearest: Sequence[str] = ()
        try:
            if file is not None and file.is_file():
                return file
            if file is not None and file.exists() and not file.is_dir():  # a pipe would never end
                raise _unfit(path, 'is no regular file', self.instead)
            if file is not None:
                inside = sorted(map(str, file.glob('*.json')))
                nearest = inside[:1] or nearest_files(file, [*self.names, *sorted(file.parent.glob('*.json'))])
        except (OSError, ValueError) as error:  # a name that is too long, a folder that may not be looked into
            if isinstance(error, DistillationError):
                raise
        raise DistillationError(f'was not found (working directory {Path.cwd()})', given=str(path) if file else path,
                                nearest=nearest, accepted=self.instead)


def parsed(file: Path, path: Any) -> Any:
    """What a JSON file holds. Raises :class:`DistillationError` as :meth:`ArtefactFormat.read` does."""
    def refuse(name: str) -> NoReturn:
        raise _unfit(path, f'holds {name}', 'finite numbers')

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits[:100])  # 1e999

    def once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _unfit(path, f'has {twice[:200]!r} twice in one object', 'each key once')
        return content

    try:
        if file.stat().st_size > LARGEST:
            raise _unfit(path, f'has {file.stat().st_size} bytes', f'up to {LARGEST}')
        content = json.loads(file.read_text(encoding='utf-8'), parse_constant=refuse, parse_float=finite,
                             object_pairs_hook=once)
    except DistillationError:
        raise
    except (ValueError, RecursionError, OSError, MemoryError) as error:  # no JSON, no text, too deep, digits without end
        raise DistillationError(f'is no whole JSON file ({str(error)[:200]})', given=str(path),
                                hint='Was its writing interrupted?') from None
    _check_values(content, path)
    return content


def _check_values(content: Any, path: Any) -> None:
    """Refuses what cannot be shown in a message or written again: halves of letters, lists in lists without end."""
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            raise _unfit(path, f'is nested more than {DEEPEST} deep', 'objects and lists as a search writes them')
        if isinstance(value, str) and not value.isascii() and any('\ud800' <= letter <= '\udfff' for letter in value):
            raise _unfit(path, f'holds half a letter in {value[:100]!r}', 'text')
        if isinstance(value, (dict, list)):
            inside = [*value, *value.values()] if isinstance(value, dict) else value
            waiting.extend((each, depth + 1) for each in inside)


def format_of(file: Path, formats: Sequence[ArtefactFormat]) -> ArtefactFormat:
    """Which of some formats a file has. Raises :class:`DistillationError` if it has none of them, or is no file."""
    content = parsed(formats[0].find(file), file)
    given = content.get('format') if isinstance(content, dict) else type(content).__name__
    found = [kind for kind in formats if kind.name == given]
    if not found:
        raise _unfit(file, f'has the format {given!r}', ' or '.join(repr(kind.name) for kind in formats))
    return found[0]


def is_number(value: Any) -> bool:
    """Whether a value from a file is a finite number that float32 holds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= FLOAT32_MOST


def is_name(value: Any) -> bool:
    """Whether a value from a file is a name."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def require(fits: bool, path: Any, what: str, given: Any, accepted: str) -> None:
    """Raises :class:`DistillationError` about one entry of a file unless it fits.

    Args:
        fits: whether the entry fits.
        path: the file.
        what: which entry it is.
        given: what stands there.
        accepted: what may stand there.
    """
    if not fits:
        raise _unfit(path, f'{what} is {_short(given)}', accepted)


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10 ** 20:  # Python refuses to write out more than 4300 digits
        return 'a whole number of more than 20 digits'
    return repr(value[:200]) if isinstance(value, str) else str(value)[:200]


def readable_json(content: Mapping[str, Any]) -> str:
    """JSON with an entry a line, and every list of numbers on one line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return re.sub(r'\[\s+([^][{}"]+?)\s+\]', lambda found: f'[{" ".join(found[1].split())}]', text) + '\n'


def _unfit(path: Any, problem: str, accepted: str) -> DistillationError:
    return DistillationError(problem, given=str(path), accepted=accepted)
