"""What the parts of a config have to be for a search to be made of it, and which of them the search decides."""
from typing import Any, Mapping

from ..utils.errors import DistillationError, under
from ..utils.options import Block, Either, Kind, Number

DECIDED = dict(
    work_dir='--work-dir of mmkd search', val_cfg='nothing: the student of a search is not to be used',
    val_dataloader='nothing, or hook.dataloader for the images the search validates on',
    val_evaluator='nothing: the student of a search is not to be used')
"""Keys that a search sets by itself, and what may be used instead."""
DICT = Block('a dict')
MAYBE_DICT = Either(DICT, (None,))
_PARTS = dict(model=MAYBE_DICT, train_cfg=DICT, train_dataloader=DICT, default_hooks=MAYBE_DICT, custom_imports=MAYBE_DICT)


def check_parts(content: Mapping[str, Any]) -> None:
    """Looks at the parts of a config that a search is made of.

    Args:
        content: the whole config, of the training or of the search.

    Raises:
        DistillationError: for the first that is of another kind; the path is its key.
    """
    for key, kind in _PARTS.items():
        _read(kind, content.get(key), key)
    distillers = (content.get('model') or {}).get('distillers')
    _read(MAYBE_DICT, distillers, 'model.distillers')
    for name, block in (distillers or {}).items():
        _read(DICT, block, f'model.distillers.{name}')
    for key in ('max_epochs', 'max_iters'):
        _read(Either(Number(above=0, whole=True), (None,)), content['train_cfg'].get(key), f'train_cfg.{key}')
    for name, hook in (content.get('default_hooks') or {}).items():
        _read(MAYBE_DICT, hook, f'default_hooks.{name}')
    checkpoint = (content.get('default_hooks') or {}).get('checkpoint') or {}
    _read(Number(), checkpoint.get('interval', -1), 'default_hooks.checkpoint.interval')
    _check_list(content.get('custom_hooks'), dict, 'custom_hooks', 'a list of dicts')
    imports = (content.get('custom_imports') or {}).get('imports')
    if not isinstance(imports, str):
        _check_list(imports, str, 'custom_imports.imports', 'a list of names of modules')


def check_decided(content: Mapping[str, Any], derived: Mapping[str, Any], name: str) -> None:
    """Looks at what a search has decided by itself, after its config has been overridden.

    Args:
        content: the search's config with overrides.
        derived: the one without.
        name: name of the searched distiller.

    Raises:
        DistillationError: for what was changed and makes it another search, or none.
    """
    for key, instead in DECIDED.items():
        _require_same(content.get(key), derived.get(key), key, instead)
    hooks = content.get('custom_hooks')
    if not hooks:
        raise DistillationError(path='custom_hooks', given=hooks, accepted='the hook of the search first')
    hook, first = hooks[0], derived['custom_hooks'][0]
    for key, instead in (('type', "the search's hook, of the type that follows from the distiller, comes first"),
                         ('out', 'the name under which the training looks for the result')):
        _require_same(hook.get(key), first.get(key), f'custom_hooks[0].{key}', instead)
    with under('model.distillers'):
        present = content['model'].get('distillers') or {}
        if name not in present:
            raise DistillationError(f'has no {name}, which is searched')
        for key in ('type', 'mode'):
            expected = derived['model']['distillers'][name][key]
            _require_same(present[name].get(key), expected, f'{name}.{key}', repr(expected))


def _read(kind: Kind, value: Any, path: str) -> None:
    with under(path):
        kind.read(value)


def _check_list(value: Any, kind: type, path: str, accepted: str) -> None:
    listed = isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)
    if value is not None and not listed:
        raise DistillationError(path=path, given=value, accepted=accepted)


def _require_same(value: Any, expected: Any, path: str, accepted: str) -> None:
    if value != expected:
        raise DistillationError('is decided by the search', path=path, given=value, accepted=accepted)
