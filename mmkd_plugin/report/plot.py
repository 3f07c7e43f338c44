"""Pictures of what a search has written, whichever search it was."""
from pathlib import Path
from typing import List, Optional

from ..dfa.artefact import FORMAT as AGGREGATION
from ..dfa.artefact import read_aggregation
from ..distpro.artefact import FORMAT as PROCESS
from ..distpro.artefact import read_process
from ..search.artefact import format_of
from ..utils.errors import DistillationError
from .aggregation import draw_course, draw_weights
from .processes import draw_process

SUFFIXES = ('.png', '.svg')


def draw(file: Path, folder: Optional[Path] = None, title: str = '') -> List[Path]:
    """Draws a file of a search: a process, its weights over time; an aggregation, its weights and how they came about.

    Args:
        file: ``process.json`` or ``aggregation.json``.
        folder: where the pictures go, by default the folder of the file. They are called ``<file>_<what>`` and come as PNG
            and SVG.
        title: text above the panels of a process.

    Returns:
        The pictures that were written.

    Raises:
        DistillationError: for a file that no search has written, a folder that is a file, or pictures that cannot be
            written.
    """
    folder = folder or file.parent
    try:
        return _draw(file, folder, title)
    except OSError as error:
        raise DistillationError(f'cannot be written ({error.strerror or error})', path='out',
                                given=str(error.filename or folder), accepted='a place for pictures') from None


def _draw(file: Path, folder: Path, title: str) -> List[Path]:
    if folder.is_file():
        raise DistillationError('is a file', path='out', given=str(folder), accepted='a folder')
    kind = format_of(file, (PROCESS, AGGREGATION))

    def paths(what: str) -> List[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        return [folder / f'{file.stem}_{what}{suffix}' for suffix in SUFFIXES]

    if kind is PROCESS:
        written = paths('weights')
        draw_process(read_process(file), written, title)
        return written
    content = read_aggregation(file)
    written = paths('weights')
    for path in written:
        draw_weights(content, path)
    if content['course']:
        for path in paths('course'):
            draw_course(content, path)
            written.append(path)
    return written
