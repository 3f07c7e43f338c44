"""Mutations of nested values: what is changed where, and how it is applied. A mutation is data, so it can be judged."""
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Tuple

Path = Tuple[Any, ...]
"""The keys of dicts and the positions in lists on the way to a value."""

MISSING = object()


@dataclass(frozen=True)
class Mutation:
    """One change of a nested value.

    Attributes:
        operation: 'replace', 'delete', 'rename' (a key), 'add' (a key to a dict, at its end) or 'swap' (two values).
        path: which value; for 'add' the path of the new one.
        value: for 'replace' and 'add' the new value, for 'rename' the new key, for 'swap' the path of the other value.
        what: how the value came about, in words.
    """
    operation: str
    path: Path
    value: Any = MISSING
    what: str = ''

    def applied(self, tree: Any) -> Any:
        """The mutated tree; the given one stays as it is."""
        return APPLY[self.operation](tree, self.path, self.value)

    def __str__(self) -> str:
        value = '' if self.value is MISSING else f' -> {short(self.value)}'
        return f'{self.operation} {dotted(self.path)}{value}{f" ({self.what})" if self.what else ""}'


@dataclass(frozen=True)
class Unchanged(Mutation):
    """No mutation: what is given must pass as it is."""
    operation: str = 'none'
    path: Path = field(default=())

    def applied(self, tree: Any) -> Any:
        return tree


def dotted(path: Path) -> str:
    """A path as a user would write it."""
    text = ''
    for part in path:
        text += f'[{part}]' if isinstance(part, int) and not isinstance(part, bool) else f'.{part}' if text else str(part)
    return text


def short(value: Any, length: int = 200) -> str:
    """A value in at most so many characters."""
    try:
        text = repr(value)
    except Exception as error:  # a value may be anything
        text = f'<{type(value).__name__} whose repr raises {type(error).__name__}>'
    return text if len(text) <= length else f'{text[:length]}... ({len(text)} characters)'


def value_at(tree: Any, path: Path) -> Any:
    """The value at a path; MISSING if there is none."""
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return tree


def paths(tree: Any, at: Path = ()) -> Iterator[Path]:
    """The paths of all values below a tree, not that of the tree itself."""
    items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    for key, value in items:
        yield (*at, key)
        yield from paths(value, (*at, key))


def _at_parent(tree: Any, path: Path, change: Callable[[Any, Any], Any]) -> Any:
    """A copy of the tree in which ``change(container, key)`` stands in place of the container of the last key."""
    if len(path) == 1:
        return change(tree, path[0])
    inner = _at_parent(tree[path[0]], path[1:], change)
    return _with(tree, path[0], inner)


def _with(container: Any, key: Any, value: Any) -> Any:
    if isinstance(container, dict):
        changed = copy(container)
        changed[key] = value
        return changed
    return type(container)([*container[:key], value, *container[key + 1:]])


def _without(container: Any, key: Any) -> Any:
    if isinstance(container, dict):
        return type(container)((name, value) for name, value in container.items() if name is not key and name != key)
    return type(container)([*container[:key], *container[key + 1:]])


def _replace(tree: Any, path: Path, value: Any) -> Any:
    return _at_parent(tree, path, lambda container, key: _with(container, key, value)) if path else value


def _delete(tree: Any, path: Path, value: Any) -> Any:
    return _at_parent(tree, path, _without)


def _rename(tree: Any, path: Path, value: Any) -> Any:
    return _at_parent(tree, path, lambda container, key: type(container)(
        (value if name == key else name, inner) for name, inner in container.items()))


def _swap(tree: Any, path: Path, value: Path) -> Any:
    one, other = value_at(tree, path), value_at(tree, value)
    return _replace(_replace(tree, path, other), value, one)


APPLY = dict(replace=_replace, delete=_delete, rename=_rename, add=_replace, swap=_swap)
