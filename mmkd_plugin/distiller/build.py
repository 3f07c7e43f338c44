"""From the config of a distiller to the distiller."""
from typing import Any

from mmengine.registry import MODELS as MMENGINE_MODELS

from ..registry import MODELS
from ..utils.errors import DistillationError, under
from ..utils.mmrazor import hint_for
from ..utils.type_names import unknown_type
from .base import Distiller


def build_distiller(name: str, cfg: Any) -> Distiller:
    """Builds one distiller of a config.

    Args:
        name: its name in the config.
        cfg: its type and its options.

    Raises:
        DistillationError: if it is none, or its options do not fit; the path is that of the config.
    """
    with under(f'model.distillers.{name}'):
        if not isinstance(name, str) or not name.isidentifier():
            raise DistillationError('is no name', given=name, accepted='letters, digits and underscores')
        if 'loss' in name:
            raise DistillationError('has "loss" in it: mmengine adds up everything in the log with that in its name, and '
                                    'the name of a distiller is part of what it logs', given=name,
                                    accepted="a name without 'loss'")
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise DistillationError('is no distiller', given=cfg, accepted='a dict with a type')
        options = {key: value for key, value in cfg.items() if key != 'type'}
        distiller: Distiller = _distiller_class(cfg['type'])(**options)
    distiller.name = name
    return distiller


def registered(kind: str) -> Any:
    """What is registered under a name among mmengine's models; None where nothing is, or the name is none ('.x')."""
    try:
        return MMENGINE_MODELS.get(kind)
    except (TypeError, ValueError, RuntimeError, ImportError):  # a scope that cannot be imported
        return None


def _distiller_class(kind: Any) -> Any:
    known = [f'mmkd.{known}' for known, entry in MODELS.module_dict.items()
             if isinstance(entry, type) and issubclass(entry, Distiller)]
    if isinstance(kind, str) and registered(kind) is None:
        raise unknown_type('type', kind, known, hint_for(kind) or 'One of your own needs its scope, as registered.')
    found = registered(kind) if isinstance(kind, str) else kind
    if not (isinstance(found, type) and issubclass(found, Distiller)):
        raise DistillationError('is not a distiller', path='type', given=kind, accepted=', '.join(map(repr, known)),
                                hint=hint_for(kind) or 'Or one of your own.')
    return found
