"""What a training leaves in its work dir, and where."""
import re
from pathlib import Path
from typing import List, Optional, Tuple

from mmengine.config import Config

from .config import is_file

STARTED = re.compile(r'\d{8}_\d{6}')
"""The name of the folder that mmengine makes each time a run is started or resumed."""


def work_dir_of(cfg: Config) -> Path:
    """The work dir of a training: its own, or ``work_dirs/<name of the config file>``, as ``tools/train.py`` has it."""
    if cfg.get('work_dir') is not None:
        return Path(cfg.work_dir)
    return Path('work_dirs', Path(cfg.filename).stem) if cfg.filename else Path('work_dirs')


def latest_checkpoint(folder: Path) -> Optional[Path]:
    """The newest checkpoint of a work dir: the one that ``last_checkpoint`` names, or that with the largest number."""
    note = folder / 'last_checkpoint'
    if note.is_file():
        named = Path(note.read_text(errors='replace').strip())
        for path in (named, folder / named.name):
            if is_file(path):
                return path
    numbered: List[Tuple[int, Path]] = []
    for path in folder.glob('*.pth'):
        match = re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name)
        if match:
            numbered.append((int(match[1]), path))
    return max(numbered)[1] if numbered else None


def started(folder: Path) -> List[Path]:
    """The folders of the single starts of a run, the oldest first."""
    return sorted(path for path in folder.iterdir() if STARTED.fullmatch(path.name) and path.is_dir())
