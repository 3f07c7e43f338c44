"""From what a config says about a loss (a name, or a dict) to the loss."""
import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Sequence, Tuple, Type, TypeVar

from ..registry import MODELS
from ..utils.errors import DistillationError, nearest_names
from ..utils.kinds import ReadKind
from ..utils.mmrazor import hint_for
from .base import Loss

Family = TypeVar('Family', bound=Loss)


def loss_names(family: Type[Loss]) -> Dict[str, str]:
    """The registered losses of a family: the name of each class, by its short name (by itself where it has none)."""
    return {entry.short or name: name for name, entry in MODELS.module_dict.items()
            if isinstance(entry, type) and issubclass(entry, family)}


def build_loss(config: Any, family: Type[Family], **defaults: Any) -> Family:
    """Builds a loss.

    Args:
        config: its short name (``'cwd'``), its registered name (``'mmkd.CWDLoss'``), or a dict with one of them as
            ``type``, and options.
        family: what it has to be: a loss between features, or between class scores.
        defaults: options it has where the config does not say them, if it knows them.

    Raises:
        DistillationError: if there is none of that name, it is of another family, or its options do not fit.
    """
    kind, options = _class_and_options(config, family, ())
    known = {field.name for field in dataclasses.fields(kind.Options)}
    return kind(**{**{name: value for name, value in defaults.items() if name in known}, **options})


def _class_and_options(config: Any, family: Type[Family],
                       others: Sequence[str]) -> Tuple[Type[Family], Dict[str, Any]]:
    if not isinstance(config, dict):
        return _loss_class(config, family, others), {}
    if 'type' not in config:
        raise DistillationError('has no type', given=config, accepted='a name, or a dict with a type and options')
    try:
        kind = _loss_class(config['type'], family, ())
    except DistillationError as error:
        raise error.at('type') from None
    return kind, {key: value for key, value in config.items() if key != 'type'}


def _loss_class(name: Any, family: Type[Family], others: Sequence[str]) -> Type[Family]:
    names = loss_names(family)
    found = MODELS.get(names.get(name, name)) if isinstance(name, str) and name else name
    if isinstance(found, type) and issubclass(found, family):
        return found
    problem = 'is not known' if found is None else f'is no {family.__name__}'
    raise DistillationError(problem, given=name, accepted=', '.join(map(repr, [*others, *names])),
                            nearest=nearest_names(name, [*others, *names, *(f'mmkd.{each}' for each in names.values())]),
                            hint=hint_for(name) or 'One of your own needs its scope, as registered.')


@dataclass(frozen=True)
class LossConfig(ReadKind):
    """The kind of an option that says which loss.

    Args:
        family: what it has to be: a loss between features, or between class scores.
        others: names of what the option takes besides.
    """
    family: Type[Loss]
    others: Tuple[str, ...] = ()

    @property
    def accepted(self) -> str:
        names = ', '.join(map(repr, [*self.others, *loss_names(self.family)]))
        return f'{names}; a registered one of your own; a dict with a type and its options'

    def read(self, value: Any) -> Any:
        """The value as it is. Raises :class:`DistillationError` if no loss can be built of it."""
        if isinstance(value, str) and value in self.others:
            return value
        kind, options = _class_and_options(value, self.family, self.others)
        if kind.__init__ is Loss.__init__:
            kind.Options.read(options)
        else:  # it may take other arguments, or check more
            kind(**options)
        return value
