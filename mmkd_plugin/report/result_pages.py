"""Pages with tables of results: what stands between their markers is made from the stored results.

A page has, on lines of their own, ``<!-- results: NAME -->`` and ``<!-- end -->``; between them comes the table of
``benchmarks/tables/NAME.py`` with the results of ``benchmarks/results/NAME.json``, and its pictures.
"""
import os
import re
from pathlib import Path
from typing import Dict, List, Tuple

from ..utils.errors import DistillationError, unknown_name
from ..utils.files import whole_file
from .accuracy import Table
from .bars import accuracy_against_time, bars
from .results import read_results
from .tables import Line, markdown, measured_lines

BEGIN = re.compile(r'^<!-- results: (\S+) -->$', re.MULTILINE)
MARKED = re.compile(r'^(<!-- results: (\S+) -->\n)(?:(?!^<!-- results: ).)*?^(<!-- end -->)$', re.MULTILINE | re.DOTALL)
IMAGES = Path('docs/images')


def result_pages(root: Path) -> Dict[str, bytes]:
    """Pages and pictures as the stored results make them, by their path in the checkout.

    Args:
        root: the checkout.

    Raises:
        DistillationError: for the marker of a table that is not there, or one without an end.
    """
    files: Dict[str, bytes] = {}
    for page in sorted((root / 'docs').rglob('*.md')):
        text = page.read_text()
        names = BEGIN.findall(text)
        if not names:
            continue
        if len(MARKED.findall(text)) < len(names):
            raise DistillationError('has a table of results that does not end', path=str(page), given=names,
                                    accepted='a line <!-- end --> after each')
        parts: Dict[str, str] = {}
        for name in names:
            parts[name], pictures = result_part(name, page, root)
            files.update(pictures)
        filled = MARKED.sub(lambda found: f'{found[1]}\n{parts[found[2]]}\n\n{found[3]}', text)  # noqa: B023
        files[str(page.relative_to(root))] = filled.encode()
    return files


def result_part(name: str, page: Path, root: Path) -> Tuple[str, Dict[str, bytes]]:
    """What stands between the markers of one table, and the pictures that it shows.

    Args:
        name: the name of the table's file, without its suffix.
        page: the page it stands on.
        root: the checkout.
    """
    file = root / f'benchmarks/tables/{name}.py'
    if not file.exists():
        raise unknown_name(f'{page}: results', name, sorted(path.stem for path in file.parent.glob('*.py')))
    table = Table.from_file(file)
    results = read_results(root / f'benchmarks/results/{name}.json')
    pictures = _pictures(name, table, measured_lines(table, results))
    links = [f'![{title}]({os.path.relpath(root / path, page.parent)})' for path, (title, _) in pictures.items()]
    return '\n\n'.join([markdown(table, results), *links]), {path: content for path, (_, content) in pictures.items()}


def _pictures(name: str, table: Table, lines: List[Line]) -> Dict[str, Tuple[str, bytes]]:
    """The title and the content of each picture by its path; none of what has fewer than two rows to compare."""
    found: Dict[str, Tuple[str, bytes]] = {}
    if len(lines) > 1:
        found[str(IMAGES / f'results_{name}.svg')] = f'{table.metric} of each row and seed', bars(table, lines)
    if sum(1 for line in lines if line.seconds) > 1:
        found[str(IMAGES / f'results_{name}_time.svg')] = (f'{table.metric} over the time of an iteration',
                                                           accuracy_against_time(table, lines))
    return found


def out_of_date(root: Path) -> Dict[str, bytes]:
    """Pages and pictures that are not what the stored results make, as they should be, by their path in the checkout."""
    return {path: content for path, content in result_pages(root).items()
            if not (root / path).exists() or (root / path).read_bytes() != content}


def write_result_pages(root: Path) -> List[str]:
    """Brings pages and pictures up to date, and returns the paths of those that were not."""
    changed = out_of_date(root)
    for path, content in changed.items():
        with whole_file(root / path) as file:
            file.write(content)
    return list(changed)
