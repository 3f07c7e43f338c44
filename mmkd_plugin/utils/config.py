"""Finding and reading config files the way users name them: a path, or ``package::path``."""
import functools
import os
import re
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple, Union

import yaml
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio.handlers import YamlHandler, registry_utils

from .errors import LONGEST_NAME, DistillationError, nearest_files, shortened, unknown_name

PACKAGE_OF_PREFIX = {'mmcls': 'mmpretrain', 'mmkd': 'mmkd_plugin'}
PREFIXES = ('mmseg', 'mmdet', 'mmpretrain', 'mmkd_plugin')
CONFIG_SUFFIXES = ('.py', '.json', '.yml', '.yaml')
MOST_VALUES = 10 ** 6
ACCEPTED = 'a path, "package::path", or a dict'
OWN = 'mmkd_plugin'
ONEDL_MMSEG = 'onedl-mmsegmentation'
_SAFE_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
"""The one in C where PyYAML has it: to find ``mmseg::x.py`` mmengine reads all metafiles of a package."""


def package_of(reference: Any) -> Optional[str]:
    """The package that a reference ``'package::path'`` names, as a module; None for any other, and for this package."""
    prefix, is_named, _ = reference.partition('::') if isinstance(reference, str) else ('', '', '')
    package = PACKAGE_OF_PREFIX.get(prefix, prefix)
    return package if is_named and package != OWN else None


def load_config(reference: Union[str, Dict[str, Any], Config], key: str) -> Config:
    """Reads a config.

    Args:
        reference: a path (relative to the working directory), ``'mmseg::pspnet/x.py'`` for a config that an installed
            package carries, or the config itself.
        key: the config key it stands under, for messages.

    Raises:
        DistillationError: if there is no such file, which names the nearest one; or it is no config.
    """
    if isinstance(reference, Config):
        return reference.copy()
    if isinstance(reference, dict):
        return _read(key, '', lambda: Config(reference))
    if not isinstance(reference, (str, Path)):
        raise DistillationError('is not a config', path=key, given=reference, accepted=ACCEPTED)
    path = find_config(str(reference), key)
    if path.suffix not in CONFIG_SUFFIXES:
        raise DistillationError('is not a config file', path=key, given=str(reference), accepted=', '.join(CONFIG_SUFFIXES))
    with yaml_as_data():
        return _read(key, str(reference), lambda: _from_file(path))


def _from_file(path: Path) -> Config:
    cfg = Config.fromfile(path)
    _import(cfg._cfg_dict)
    return cfg


def _import(node: Any) -> None:
    """Imports what a config in pure Python imports, which mmengine does where a value is first looked at."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _import(value)


class _SafeYaml(YamlHandler):
    """mmengine's reader of YAML, without the tags that call Python, and without aliases of aliases that fill the memory."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        content = yaml.load(file, **{**kwargs, 'Loader': _SAFE_LOADER})
        count = _count(content, {})
        if count > MOST_VALUES:
            raise ValueError(f'with its aliases it has {count} values, more than {MOST_VALUES}')
        return content


def _count(node: Any, known: Dict[int, int]) -> int:
    """How many values there are when all that is shared is copied, as configs do."""
    if id(node) not in known:
        parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


@contextmanager
def yaml_as_data() -> Iterator[None]:
    """What mmengine reads inside from YAML files is data: a tag that asks for a class or a call of Python is an error.

    Its own reader calls what a file names. This goes for the files that a config inherits from too, whatever placeholders
    are filled in before they are read.
    """
    handlers = registry_utils.file_handlers
    before = dict(handlers)
    handlers.update(yaml=_SafeYaml(), yml=_SafeYaml())
    try:
        yield
    finally:
        handlers.update(before)


def _read(key: str, name: str, read: Callable[[], Config]) -> Config:
    try:
        return read()
    except DistillationError:
        raise  # of a base that this package should have
    except (Exception, SystemExit) as error:  # a config is a program, which may raise anything
        _check_custom_imports(error, name, key)
        reason = shortened(f'{type(error).__name__}: {error}')
        raise DistillationError(f'{name!r} cannot be read ({reason})' if name else f'is no config ({reason})', path=key,
                                hint=_remedy(error)) from error


def _remedy(error: BaseException) -> str:
    """What can be done about an error of a config, '' where that is not known."""
    lacks = re.search(r"ConfigDict' object has no attribute '(\w+)'", str(error))
    if lacks:
        return f'The base config has no {lacks[1]}: leave _base_.{lacks[1]} out.'
    if isinstance(error, ModuleNotFoundError) and error.name == 'pkg_resources':
        return "mmengine imports it to find a base config, and setuptools has it up to 81: pip install 'setuptools<82'."
    return ''


def extend_bases() -> None:
    """Lets a config name one of this package as its base, ``_base_ = 'mmkd_plugin::path'``.

    mmengine has a list of the packages that it takes configs of, and looks for them where a source checkout has none. Before
    this package has been imported (the upstream tools read a config first) such a name is an error of mmengine.
    """
    find = Config._get_cfg_path
    if getattr(find, 'knows_this_package', False):
        return

    @functools.wraps(find)
    def find_base(cfg_path: str, filename: str) -> Tuple[str, Optional[str]]:
        prefix, is_named, _ = cfg_path.partition('::')
        if is_named and PACKAGE_OF_PREFIX.get(prefix, prefix) == OWN:
            return str(find_config(cfg_path, '_base_')), None
        found: Tuple[str, Optional[str]] = find(cfg_path, filename)
        return found

    find_base.knows_this_package = True  # type: ignore[attr-defined]  # a mark that no function has
    Config._get_cfg_path = staticmethod(find_base)


def name_packages_of_onedl() -> None:
    """Lets ``mmseg::path`` be found where OneDL's packages are: mmengine asks for mmsegmentation, OpenMMLab's name for it.

    OneDL's mmdet and mmpretrain have other names too; mmengine's name for them is that of the module, which it also finds.
    """
    try:
        distribution(ONEDL_MMSEG)
    except PackageNotFoundError:
        return
    MODULE2PACKAGE['mmseg'] = ONEDL_MMSEG


def _check_custom_imports(error: BaseException, name: str, key: str) -> None:
    """Raises :class:`DistillationError` where it was a module of ``custom_imports`` that could not be imported.

    mmengine lists all of Python's path then; why it failed stands in the cause of the cause.
    """
    failed = error.__cause__
    cause = None if failed is None else failed.__context__
    if not isinstance(error, ImportError) or not isinstance(failed, ImportError) or not isinstance(cause, ImportError):
        return
    module = str(failed).removeprefix('Failed to import ')
    is_missing = isinstance(cause, ModuleNotFoundError) and f'{module}.'.startswith(f'{cause.name}.')
    hint = 'The folder that it is in has to be in PYTHONPATH.' if is_missing else ''
    raise DistillationError(f'has custom_imports of {module!r}, which cannot be imported ({type(cause).__name__}: '
                            f'{shortened(str(cause))})', path=key, given=name, hint=hint) from error


def find_config(reference: str, key: str) -> Path:
    """The file behind a path or ``package::path``. Raises :class:`DistillationError` if there is none."""
    if '::' not in reference:
        path = Path(reference)
        if not is_file(path):
            raise _not_found(reference, key, path.parent, '*.py', f'(working directory {Path.cwd()})')
        return path
    prefix, _, relative = reference.partition('::')
    package = PACKAGE_OF_PREFIX.get(prefix, prefix)
    try:
        module = import_module(package)
    except (ImportError, ValueError, TypeError) as error:  # '' and '.x' are no names of modules
        raise unknown_name(key, prefix, PREFIXES, f'Another package works if it can be imported ({error}).',
                           f'is no known package (of {reference!r})') from None
    if module.__file__ is None:
        raise DistillationError(f'names {package}, a folder without code, which carries no configs', path=key,
                                given=reference)
    folder = carried_folder(Path(module.__file__).parent, 'configs')
    inside = os.path.normpath(relative)
    if os.path.isabs(inside) or inside.split(os.sep)[0] == os.pardir:
        raise DistillationError(f'leaves the configs of {package}', path=key, given=reference,
                                accepted=f'a path inside them, or one without "{prefix}::"')
    path = folder / relative
    if not is_file(path):
        raise _not_found(reference, key, folder, '**/*.py', f'among the configs of {package}')
    return path


def is_file(path: Union[str, Path]) -> bool:
    """Whether there is a regular file of that name; False for what can be none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name that is too long, or with NUL
        return False


def carried_folder(package: Path, name: str) -> Path:
    """A folder that comes with a package: a source checkout keeps it beside the package, an installed package inside it.

    Args:
        package: the folder of the package.
        name: ``'configs'`` or ``'tools'``.
    """
    folders = [package / '.mim' / name, package.parent / name]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _not_found(reference: str, key: str, folder: Path, pattern: str, where: str) -> DistillationError:
    wanted = Path(reference.split('::')[-1])
    known = len(wanted.name) <= LONGEST_NAME and folder.is_dir()
    near = []
    for name in nearest_files(wanted, sorted(folder.glob(pattern))) if known else ():
        found = Path(name)
        prefix = f'{reference.split("::")[0]}::' if '::' in reference else ''
        near = [f'{prefix}{found.relative_to(folder) if prefix else found}']
    return DistillationError(f'was not found {where}', path=key, given=reference, nearest=near, accepted=ACCEPTED)
