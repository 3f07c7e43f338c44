"""The plain student of a distilled config: its model, and a config that needs neither teacher nor distillers."""
import copy
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Union

from mmengine.config import Config

from ..utils.config import load_config
from ..utils.errors import DistillationError
from .overlay import STUDENT_KEYS
from .run_checks import is_distilled_config

PACKAGE = __name__.partition('.')[0]
OURS = 'mmkd.'
"""How the types of this package begin."""


def student_of(cfg: Mapping[str, Any]) -> Dict[str, Any]:
    """The config of the student alone, with its data preprocessor.

    Args:
        cfg: a whole config, distilled or not.

    Raises:
        DistillationError: if its model has no student.
    """
    model = cfg['model']
    if is_distilled_config(model):
        student = model.get('student')
        if not isinstance(student, Mapping) or 'type' not in student:
            raise DistillationError(path='model.student', given=student, accepted='a dict with a type: the config of any '
                                    'mmengine BaseModel')
        found = {**student, **{key: model[key] for key in STUDENT_KEYS if key in model}}
    else:
        found = dict(model)
    preprocessor = (model.get('data_preprocessor') if is_distilled_config(model) else None) or cfg.get('data_preprocessor')
    if preprocessor is not None:
        found.setdefault('data_preprocessor', preprocessor)
    return found


def plain_config(config: Union[str, Path, Config]) -> Config:
    """The config of the student alone, for whatever takes a config apart: ``mmdet.apis.init_detector`` and the like.

    ``model`` is the student; hooks of this package and ``search`` are left out, and so is the import of this package where
    nothing is left that needs it. A checkpoint of the distilled run opens with it.

    Args:
        config: a distilled config, or its path. One that is not distilled comes back as it is.

    Raises:
        DistillationError: if the config is not found, or its model has no student.
    """
    cfg = load_config(str(config) if isinstance(config, Path) else config, 'config')
    if not is_distilled_config(cfg.get('model')):
        return cfg
    content: Dict[str, Any] = copy.deepcopy(cfg.to_dict())
    content['model'] = student_of(content)
    content.pop('search', None)
    hooks = [hook for hook in content.get('custom_hooks') or () if not _is_ours(hook)]
    content['custom_hooks'] = hooks
    if not any(_ours(content)):
        _without_import(content)
    return Config(content, filename=cfg.filename)


def needs_package(cfg: Config) -> bool:
    """Whether a config has types of this package: a network, a data set, a hook."""
    return any(_ours(cfg.to_dict()))


def _is_ours(block: Any) -> bool:
    kind = block.get('type') if isinstance(block, dict) else None
    return str(kind).startswith(OURS) or str(getattr(kind, '__module__', '')).startswith(f'{PACKAGE}.')


def _ours(node: Any) -> Iterator[bool]:
    """True for every type of this package that stands somewhere below."""
    if isinstance(node, dict):
        if _is_ours(node):
            yield True
        for value in node.values():
            yield from _ours(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _ours(value)


def _without_import(content: Dict[str, Any]) -> None:
    imports = content.get('custom_imports')
    if not isinstance(imports, dict):
        return
    names = imports.get('imports')
    left: List[str] = [name for name in ([names] if isinstance(names, str) else names or ()) if name != PACKAGE]
    if left:
        content['custom_imports'] = dict(imports, imports=left)
    else:
        del content['custom_imports']
