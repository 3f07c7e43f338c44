"""The configs that a config inherits from, read again: what it had from them, and has no longer."""
import ast
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config

from ..utils.config import find_config, yaml_as_data

OURS = 'mmkd.'
DISTILS = 'distillers'
"""What the text of a file has that distils, or changes what distils."""


def lost_hooks(cfg: Config) -> List[Tuple[str, str]]:
    """Custom hooks of the configs that a distilled one inherits from, which it has no longer.

    ``custom_hooks`` is a list, and a list replaces the inherited one. Hooks of this package are left out: another distiller
    needs others.

    Args:
        cfg: a config that was read from a file; of others nothing is known.

    Returns:
        For each its type, and the file that has it.
    """
    if not cfg.filename or not Path(cfg.filename).is_file():
        return []
    distilled, plain = _chain(Path(cfg.filename))
    if not any('custom_hooks' in file.read_text() for file in distilled):
        return []  # nothing has replaced them, and reading the bases again takes time
    kept = {_type_of(hook) for hook in cfg.get('custom_hooks') or ()}
    lost: Dict[str, str] = {}
    for file in plain:
        for hook in _read(file).get('custom_hooks') or ():
            name = _type_of(hook)
            if name and name not in kept and not name.startswith(OURS):
                lost.setdefault(name, str(file))
    return list(lost.items())


def _chain(file: Path) -> Tuple[List[Path], List[Path]]:
    """The files of a distilled config that distil, itself first, and the nearest that distil nothing."""
    distilled, plain = [file], []
    for base in base_files(file):
        if DISTILS in base.read_text():
            more = _chain(base)
            distilled += more[0]
            plain += more[1]
        else:
            plain.append(base)
    return distilled, plain


def _read(file: Path) -> Config:
    with yaml_as_data():
        return Config.fromfile(file, import_custom_modules=False)


def base_files(file: Path) -> List[Path]:
    """The files that a config inherits from directly, by ``_base_`` or ``with read_base()``."""
    if file.suffix == '.py' and Config._is_lazy_import(str(file)):
        found = [_imported(node, file) for block in ast.parse(file.read_text()).body if isinstance(block, ast.With)
                 for node in block.body if isinstance(node, ast.ImportFrom)]
        return [path for path in found if path is not None]
    # Not by mmengine's own way, which reads all metafiles of a package for it.
    return [find_config(base, '_base_') if '::' in base else Path(os.path.normpath(file.parent / base))
            for base in Config._get_base_files(str(file))]


def _imported(node: ast.ImportFrom, file: Path) -> Optional[Path]:
    """The file of ``from .x import *``, or ``from package.x import *``."""
    parts = (node.module or '').split('.')
    if node.level:
        return Path(os.path.normpath(file.parent.joinpath(*['..'] * (node.level - 1), *parts).with_suffix('.py')))
    spec = find_spec('.'.join(parts))
    return Path(spec.origin) if spec is not None and spec.origin else None


def _type_of(hook: Any) -> str:
    kind = hook.get('type') if isinstance(hook, dict) else None
    return kind if isinstance(kind, str) else getattr(kind, '__name__', '')
