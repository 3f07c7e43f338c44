"""``mmkd report``: the page about a run, or about several side by side."""
from pathlib import Path
from typing import Optional, Sequence

from ..report.compare import compare
from ..report.page import write_report
from ..utils.launch import check_file_place

NAME = 'report.html'


def report(work_dirs: Sequence[Path], out: Optional[Path] = None, alone: Sequence[str] = (), teacher: Sequence[str] = (),
           metric: Optional[str] = None, pictures: int = 4) -> Path:
    """Writes the page.

    Args:
        work_dirs: those of the runs.
        out: the page; None: ``report.html`` in the work dir, of several in the folder that the first lies in.
        alone, teacher: work dirs, or numbers: what the student reaches alone, and the teacher.
        metric: the name of the metric; None for the usual one.
        pictures: how many validation images are shown; 0 for none.

    Returns:
        The page.

    Raises:
        DistillationError: for a folder that is no run, a metric that no run has, or a page that cannot be written.
    """
    folder = work_dirs[0] if len(work_dirs) == 1 else work_dirs[0].resolve().parent
    comparison = compare(work_dirs, alone, teacher, metric)
    file = out or folder / NAME
    check_file_place(file, '-o')
    write_report(comparison, file, pictures)
    return file
