"""``mmkd distill``: a config, a teacher, a method; then one call writes the config, checks it, trains, tests, reports."""
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional, Sequence

from ..report.compare import compare
from ..report.runs import CHECKED
from ..utils.config import load_config
from ..utils.errors import DistillationError
from ..utils.files import write_whole
from ..utils.launch import override
from ..utils.overrides import parsed_options
from ..utils.work_dirs import latest_checkpoint, work_dir_of
from .init import Request, check_made_by, init
from .search import call
from .terminal import print_decisions

COMMAND = ('-m', __name__.partition('.')[0])
CHECK = ('--iters', '6', '--teacher-samples', '64')
"""Of the check before the training: enough to see what would waste it."""
ERRORS = 2
"""What ``mmkd check`` ends with where it has found errors."""


def distill(request: Request, work_dir: Optional[Path] = None, cfg_options: Sequence[str] = (), gpus: int = 1,
            check: bool = True) -> None:
    """Writes a distilled config, checks it, trains it (after its search, where it has one), tests it, and writes a report.

    Called again it goes on where it was: the config that was written stays, with what has been changed in it, and what has
    begun is not checked again.

    Args:
        request: what is distilled from what, how.
        work_dir: where the training works; None: where `mmkd train` would, as the config says or in
            ``work_dirs/<name of the config>``.
        cfg_options: overrides (``key=value``) in the config.
        gpus: how many processes train; by torchrun where it is not 1.
        check: whether :func:`~mmkd_plugin.preflight.run_check` comes first, and an error that it finds ends all.

    Raises:
        DistillationError: see :func:`~mmkd_plugin.cli.init.init`; for a config that is there and was made by other flags.
        SystemExit: if the check finds an error, or the training, its search or the test ends with one.
    """
    file = request.file
    if file.exists() and not request.force:
        check_made_by(request)
        print(f'{file}: is there already, and used as it is (--force writes it anew)', flush=True)
    else:
        decisions = init(request)
        print(f'{file}: written. What was decided:', flush=True)
        print_decisions(decisions)
    cfg = load_config(file, 'config')
    override(cfg, parsed_options('--cfg-options', cfg_options), '--cfg-options')
    folder = work_dir or work_dir_of(cfg)
    flags = ['--work-dir', str(folder), *(['--cfg-options', *cfg_options] if cfg_options else [])]
    if latest_checkpoint(folder) is None:
        (folder / CHECKED).unlink(missing_ok=True)  # it may be of another teacher
        if check:
            _check(file, flags, folder / CHECKED)
    several = cfg.get('search') is not None and gpus > 1
    if several:  # a search is started by one process, which starts the others
        _run(['search', str(file), '--then-train', '--gpus', str(gpus), *flags])
    else:
        launcher = [] if gpus == 1 else ['--launcher', 'pytorch']
        _run(['train', str(file), '--resume', *launcher, *flags], gpus)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is not None and cfg.get('test_dataloader') is not None:
        _run(['test', str(file), str(checkpoint), '--work-dir', str(folder / 'test'), *flags[2:]])
    reached = ''
    if call([sys.executable, *COMMAND, 'report', str(folder)]):
        print(f'{folder} has no report, for what stands above; the training and its test are done', flush=True)
    else:
        reached = _reached(folder)
    print(f'done: {folder}{reached}. `mmkd export {folder}` writes the student as a plain config and clean '
          'weights.', flush=True)


def _reached(folder: Path) -> str:
    """What the student has come to, for the last line; '' where nothing was validated or tested."""
    try:
        found = compare([folder])
    except DistillationError:
        return ''
    row = found.rows[-1]
    places = [('in its test', row.tested), ('at its last validation', row.last)]
    reached = [f'{values[-1]:.4g} {place}' for place, values in places if values]
    return f', with {found.metric} {" and ".join(reached)}' if reached else ''


def _check(file: Path, flags: Sequence[str], out: Path) -> None:
    """Ends all where there are errors; nothing is written then."""
    print(f'{file}: is checked before it is trained (--no-check leaves that out)', flush=True)
    with TemporaryDirectory() as folder:
        found = Path(folder) / out.name
        code = call([sys.executable, *COMMAND, 'check', str(file), *CHECK, '--out', str(found), *flags])
        is_whole = found.is_file()  # Python, too, ends with 1 where something fails
        if is_whole and code != ERRORS:
            write_whole(out, found.read_text())
    if code == ERRORS:
        raise SystemExit(f'error: mmkd check has found errors in {file}, see above. Mend them there, or train in spite of '
                         'them: --no-check.')
    if code not in (0, 1) or not is_whole:
        raise SystemExit(f'error: mmkd check ended with code {code}. What stands above says why; --no-check leaves it out.')


def _run(arguments: Sequence[str], gpus: int = 1) -> None:
    launcher = [] if gpus == 1 else ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
    code = call([sys.executable, *launcher, *COMMAND, *arguments])
    if code:
        raise SystemExit(f'error: mmkd {arguments[0]} ended with code {code}. What stands above says why; call this again '
                         'to go on.')
