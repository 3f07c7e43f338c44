"""Which checkpoint a run is resumed from: the newest that is whole."""
import logging
import re
from os.path import isfile
from pathlib import Path
from string import Formatter
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...utils.checkpoint_files import open_checkpoint
from ...utils.errors import DistillationError
from ...utils.torch_files import why_spoiled
from .ranks import decided_by_the_first
from .saving import LAST

TEMPLATES = ('epoch_{}.pth', 'iter_{}.pth')


def choose_checkpoint(runner: Runner) -> None:
    """Has a run that is to be resumed go on from a checkpoint that is whole; every rank from the same.

    Without a path that is the newest of the work dir, with one line that says which files were passed over and why. Where
    there is none, the run begins, as mmengine has it. This goes for every run, distilled or not.

    Raises:
        DistillationError: if a checkpoint that is named is spoiled, or there are some and none is whole.
    """
    if runner._resume and not runner._has_loaded:
        runner._load_from = decided_by_the_first(lambda: _chosen(runner))


def checkpoint_folders(runner: Runner) -> List[Path]:
    """Where the checkpoints of a run are: its work dir, and what its ``CheckpointHook`` has as ``out_dir``."""
    work_dir = Path(runner.work_dir)
    others = [Path(hook.out_dir) / work_dir.name for hook in _hooks(runner)
              if hook.out_dir is not None and '://' not in str(hook.out_dir) and str(hook.out_dir) != runner.work_dir]
    return [work_dir, *others]


def _hooks(runner: Runner) -> List[CheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]


def _chosen(runner: Runner) -> Optional[str]:
    folders = checkpoint_folders(runner)
    templates = list(dict.fromkeys([*TEMPLATES, *(hook.filename_tmpl for hook in _hooks(runner)
                                                  if isinstance(hook.filename_tmpl, str))]))
    if runner._load_from is None:
        return newest_whole(folders, templates, [str(hook.out_dir) for hook in _hooks(runner)])
    given = str(runner._load_from)
    path = Path(given).expanduser()
    if '://' not in given and not path.is_dir():
        spoiled = why_spoiled(path)
        if spoiled is not None:
            beside = next((file for file in _numbered([path.parent], templates)
                           if file != path and why_spoiled(file) is None), None)
            raise DistillationError(f'is not a checkpoint that is whole: {spoiled}', path='resume', given=given,
                                    accepted='one that is', nearest=[str(beside)] if beside else [])
    return given


def newest_whole(folders: Sequence[Path], templates: Sequence[str] = TEMPLATES,
                 elsewhere: Sequence[str] = ()) -> Optional[str]:
    """The newest checkpoint that is whole: what ``last_checkpoint`` names, or what was saved before; None if there is none.

    Where ``last_checkpoint`` names a file of another folder and there is one of that name here, the folder has been copied
    or moved: that here is meant.

    Args:
        folders: where checkpoints of the run are; ``last_checkpoint`` is in the first.
        templates: names of checkpoints, ``{}`` for their number, as ``str.format`` takes it.
        elsewhere: addresses to which the run saves; what ``last_checkpoint`` names there is for mmengine to fetch.

    Raises:
        DistillationError: if there are some and none is whole; lists them.
    """
    named, passed = _last(folders[0])
    if named is not None and '://' in named:
        if any('://' in place and named.startswith(place) for place in elsewhere) or not _numbered(folders, templates):
            return named
        passed = {named: f'is an address to which this run saves nothing, in {LAST}'}
        named = None
    misnamed: Dict[Path, str] = {}
    last = Path(named) if named is not None else None
    own = _of_own_folder(last, folders)
    meant = [path for path in (own, last) if path is not None]
    for path in _candidates(meant, folders, templates):
        spoiled = why_spoiled(path)
        other = why_misnamed(path, templates) if spoiled is None and path not in meant else None
        if other is not None:
            misnamed[path] = other
            passed[str(path)] = other
        elif spoiled is None:
            another = meant and path not in meant and str(meant[0]) not in passed
            if path == own or another:
                why = 'it was written later' if another else 'the folder seems to have been copied or moved'
                print_log(f'resume: {LAST} names {named}. {path} is used instead: {why}.', 'current', level=logging.WARNING)
            if passed:
                found = '; '.join(f'{name} {reason}' for name, reason in passed.items())
                print_log(f'resume: passed over: {found}. {path} is used instead.', 'current', level=logging.WARNING)
            print_log(f'resume: from {path}', 'current')
            return str(path)
        else:
            passed[str(path)] = spoiled
    for path, other in misnamed.items():
        print_log(f'resume: from {path}, which {other}', 'current', level=logging.WARNING)
        return str(path)
    if passed:
        raise DistillationError('finds no checkpoint that is whole: '
                                + '; '.join(f'{name} {reason}' for name, reason in passed.items()), path='resume',
                                given=True, hint='To begin anew, remove them, or leave resume out.')
    return None


def _last(folder: Path) -> Tuple[Optional[str], Dict[str, str]]:
    """What ``last_checkpoint`` names, and what is wrong with it, by its path."""
    file = folder / LAST
    if not file.is_file():
        return None, {str(file): 'is no file'} if file.exists() else {}
    text = file.read_bytes().decode('utf-8', 'replace').strip()
    if not text or '\0' in text or '\n' in text or len(text) > 4096:
        return None, {str(file): 'is empty' if not text.strip('\0') else 'does not hold the name of a file'}
    return text, {}


def _of_own_folder(last: Optional[Path], folders: Sequence[Path]) -> Optional[Path]:
    """The file of the run's own folders that is meant where another folder's is named; None if that is not so."""
    if last is None or last.parent.resolve() in [folder.resolve() for folder in folders]:
        return None
    return next((folder / last.name for folder in folders if isfile(folder / last.name)), None)


def _candidates(meant: Sequence[Path], folders: Sequence[Path], templates: Sequence[str]) -> Iterator[Path]:
    """The best first: what was saved after the one that is meant (the text is written after it), then it, then the others.

    A larger number that was written before it, or at the same time, is of another run that has been in this folder.

    Args:
        meant: what ``last_checkpoint`` names, in the order of preference.
        folders, templates: see :func:`newest_whole`; other folders' checkpoints are of other runs.
    """
    numbered = _numbered(folders, templates)
    if not meant or not isfile(meant[0]):  # a name that is too long for the file system is none either
        yield from (path for path in meant if path not in numbered)
        yield from numbered
        return
    last, written = meant[0], meant[0].stat().st_mtime_ns
    others = [path for path in numbered if path.resolve() != last.resolve()]
    larger = [path for path in others if _is_larger(path, last, templates)]
    yield from (path for path in larger if path.stat().st_mtime_ns > written)
    yield from meant
    yield from (path for path in others if path not in larger)


def _is_larger(path: Path, last: Path, templates: Sequence[str]) -> bool:
    """Whether a checkpoint has a larger number than another of its kind."""
    one, other = number_of(path, templates), number_of(last, templates)
    return one is not None and other is not None and one[0] == other[0] and one[1] > other[1]


def _numbered(folders: Sequence[Path], templates: Sequence[str]) -> List[Path]:
    """The checkpoints in some folders by number, the largest first; the kind that was written last before the others."""
    kinds: Dict[int, List[Tuple[int, Path]]] = {}
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            found = number_of(path, templates)
            if found is not None and path.is_file():
                kinds.setdefault(found[0], []).append((found[1], path))
    latest = sorted(kinds.values(), key=lambda files: max(path.stat().st_mtime_ns for _, path in files), reverse=True)
    return [path for files in latest for _, path in sorted(files, reverse=True)]


def number_of(path: Path, templates: Sequence[str]) -> Optional[Tuple[int, int]]:
    """Which template a file's name follows, and its number; None if it follows none."""
    for kind, template in enumerate(templates):
        found = re.fullmatch(_pattern(template), path.name)
        if found and found.groups() and template.format(int(found[1])) == path.name:
            return kind, int(found[1])
    return None


def _pattern(template: str) -> str:
    """What names that follow a template look like: a number, perhaps filled up, in place of each field."""
    try:
        template.format(1)
    except (IndexError, KeyError, ValueError, AttributeError):
        return '(?!)'  # nothing is saved under such a name
    return ''.join(re.escape(text) + ('' if field is None else ' *([0-9]{1,12})')
                   for text, field, *_ in Formatter().parse(template))


def why_misnamed(path: Path, templates: Sequence[str] = TEMPLATES) -> Optional[str]:
    """Where the number in a checkpoint's name is neither its epoch nor its iteration, which they are; otherwise None.

    Args:
        path: a checkpoint that is whole.
        templates: see :func:`newest_whole`.
    """
    number = number_of(path, templates)
    try:
        content = open_checkpoint(path)
    except DistillationError:
        return None  # said when it is loaded
    meta = content.get('meta') if isinstance(content, dict) else None
    if number is None or not isinstance(meta, dict) or not all(type(meta.get(name)) is int for name in ('epoch', 'iter')):
        return None
    if number[1] in (meta['epoch'], meta['iter']):
        return None
    return f'is of epoch {meta["epoch"]}, iteration {meta["iter"]}, whatever its name says'
