"""The files that searches write: JSON, readable, checked when they are read; nothing in them is executed."""
import json
import math
import re
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Dict, List, Mapping, NoReturn, Sequence, Tuple

from ..utils.errors import DistillationError, nearest_names, unknown_name
from ..utils.files import write_whole

LARGEST = 64 * 2 ** 20
"""Bytes: a search writes less than a 60th of it."""


@dataclass(frozen=True)
class ArtefactFormat:
    """One kind of file.

    Attributes:
        name, version: as they stand in the file under ``format`` and ``version``.
        keys: the other keys of the file.
        instead: what may be given in place of a file, for messages.
        names: words that may be given in place of a file; a path that is not found may be one of them, misspelt.
    """
    name: str
    version: int
    keys: Tuple[str, ...]
    instead: str
    names: Sequence[str] = ()

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Writes a file, in one go; makes its folder.

        Args:
            path: the file to write.
            content: what stands under each key.
        """
        write_whole(path, readable_json(dict(format=self.name, version=self.version, **content)))

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
        if content.get('version') != self.version:
            raise _unfit(path, f'has version {content.get("version")!r:.200}', str(self.version))
        keys = ('format', 'version', *self.keys)
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
        beside: List[str] = []
        try:
            if file is not None and file.is_file():
                return file
            beside = [] if file is None else [*map(str, file.parent.glob('*.json')), *map(str, file.glob('*.json'))]
        except OSError:  # a name that is too long, a folder that may not be looked into
            pass
        raise DistillationError(f'was not found (working directory {Path.cwd()})', given=str(path) if file else path,
                                nearest=nearest_names(path, [*self.names, *beside], 1), accepted=self.instead)


def parsed(file: Path, path: Any) -> Any:
    """What a JSON file holds. Raises :class:`DistillationError` as :meth:`ArtefactFormat.read` does."""
    def refuse(name: str) -> NoReturn:
        raise _unfit(path, f'holds {name}', 'finite numbers')

    try:
        if file.stat().st_size > LARGEST:
            raise _unfit(path, f'has {file.stat().st_size} bytes', f'up to {LARGEST}')
        return json.loads(file.read_text(encoding='utf-8'), parse_constant=refuse)
    except DistillationError:
        raise
    except (ValueError, RecursionError, OSError) as error:  # no JSON, no text, too deep, digits without end
        raise DistillationError(f'is no whole JSON file ({str(error)[:200]})', given=str(path),
                                hint='Was its writing interrupted?') from None


def format_of(file: Path, formats: Sequence[ArtefactFormat]) -> ArtefactFormat:
    """Which of some formats a file has. Raises :class:`DistillationError` if it has none of them, or is no file."""
    content = parsed(formats[0].find(file), file)
    given = content.get('format') if isinstance(content, dict) else type(content).__name__
    found = [kind for kind in formats if kind.name == given]
    if not found:
        raise _unfit(file, f'has the format {given!r}', ' or '.join(repr(kind.name) for kind in formats))
    return found[0]


def is_number(value: Any) -> bool:
    """Whether a value from a file is a finite number."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


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
        raise _unfit(path, f'{what} is {str(given)[:200] if not isinstance(given, str) else repr(given[:200])}', accepted)


def readable_json(content: Mapping[str, Any]) -> str:
    """JSON with an entry a line, and every list of numbers on one line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return re.sub(r'\[\s+([^][{}"]+?)\s+\]', lambda found: f'[{" ".join(found[1].split())}]', text) + '\n'


def _unfit(path: Any, problem: str, accepted: str) -> DistillationError:
    return DistillationError(problem, given=str(path), accepted=accepted)
