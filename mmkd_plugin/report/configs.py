"""The config that a run has left in its work dir, read as data: nothing in it is executed."""
import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from ..model.run_checks import is_distilled_config
from ..utils.errors import DistillationError, shortened

LARGEST = 4 * 2 ** 20
"""Bytes: configs have some thousand."""
NUMBERS = dict(inf=float('inf'), nan=float('nan'))
"""What mmengine writes for numbers that have no digits."""


def text_of(file: Path) -> str:
    """The text of a config. Raises :class:`DistillationError` if it cannot be read."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            raise DistillationError('is no file, or too large for a config', given=str(file))
        return file.read_text(errors='replace')
    except OSError as error:
        raise DistillationError(f'cannot be read ({error.strerror or error})', given=str(file)) from None


def parsed(text: str) -> Dict[str, Any]:
    """What a config says whose text is assignments of plain values, as mmengine writes it into a work dir.

    Args:
        text: the text.

    Raises:
        DistillationError: for any other statement or value.
    """
    try:
        found: Dict[str, Any] = {}
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign) or not all(isinstance(name, ast.Name) for name in statement.targets):
                raise ValueError(f'line {statement.lineno} is no assignment')
            for name in statement.targets:
                assert isinstance(name, ast.Name), 'all are'
                found[name.id] = _value(statement.value)
        return found
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise DistillationError(f'is no config of plain values ({shortened(str(error))})') from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args:
            raise ValueError(f'line {node.lineno} calls something')
        return {_key(keyword.arg, node): _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key) if key is not None else _key(None, node): _value(value)
                for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.List):
        return list(map(_value, node.elts))
    if isinstance(node, ast.Tuple):
        return tuple(map(_value, node.elts))
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        return NUMBERS[node.id]
    return ast.literal_eval(node)


def _key(name: Any, node: ast.expr) -> str:
    if name is None:
        raise ValueError(f'line {node.lineno} unpacks something')
    return str(name)


def flat(node: Any, key: str = '') -> Iterator[Tuple[str, str]]:
    """The values below a node by dotted keys, each as text."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from flat(value, f'{key}.{name}' if key else str(name))
    elif isinstance(node, (list, tuple)) and any(isinstance(value, (Mapping, list, tuple)) for value in node):
        for number, value in enumerate(node):
            yield from flat(value, f'{key}.{number}')
    else:
        yield key, repr(node)


@dataclass
class RunConfig:
    """What the config of a run says, whatever stands there.

    Attributes:
        values: the config; empty where there is none, or it cannot be read as data.
        text: as it stands in the file; '' where there is none.
    """
    values: Dict[str, Any] = field(default_factory=dict)
    text: str = ''

    @property
    def is_distilled(self) -> bool:
        """Whether it is that of a distilled run."""
        return is_distilled_config(self.values.get('model'))

    @property
    def distillers(self) -> Dict[str, Dict[str, Any]]:
        """The blocks of its distillers by name; empty where it has none."""
        return _blocks(self.values['model'].get('distillers')) if self.is_distilled else {}

    @property
    def teachers(self) -> Dict[str, Dict[str, Any]]:
        """The blocks of its teachers by name, '' for one without."""
        if not self.is_distilled:
            return {}
        model = self.values['model']
        return _blocks(model['teachers'] if isinstance(model.get('teachers'), dict) else {'': model.get('teacher')})

    @property
    def seed(self) -> Optional[int]:
        """The seed that it asks for."""
        given = self.values.get('randomness')
        seed = given.get('seed') if isinstance(given, dict) else None
        return seed if type(seed) is int else None

    @property
    def logged_every(self) -> Optional[int]:
        """Every how many iterations numbers were to be logged; None where it does not say."""
        hooks = self.values.get('default_hooks')
        logger = hooks.get('logger') if isinstance(hooks, dict) else None
        interval = logger.get('interval') if isinstance(logger, dict) else None
        return interval if type(interval) is int and interval > 0 else None

    def length(self, unit: str) -> Optional[int]:
        """How long the run was to be, in ``'iters'`` or ``'epochs'``; None where it is counted otherwise."""
        loop = self.values.get('train_cfg')
        most = loop.get(f'max_{unit}') if isinstance(loop, dict) else None
        return most if type(most) is int and most > 0 else None


def _blocks(found: Any) -> Dict[str, Dict[str, Any]]:
    there = found.items() if isinstance(found, dict) else ()
    return {str(name): block for name, block in there if isinstance(block, dict)}
