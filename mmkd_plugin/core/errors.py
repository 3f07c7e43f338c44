"""One exception for everything a user can get wrong in a distillation config, and the wording it shares."""
import inspect
from difflib import get_close_matches
from numbers import Real
from typing import Iterable, Optional


class DistillationError(ValueError):
    """A distillation config, checkpoint or batch that cannot be used as given.

    The message names the key, the value, what is accepted and, for names, the nearest valid one.
    """


def unknown_name(key: str, value, accepted: Iterable[str], hint: Optional[str] = None) -> DistillationError:
    """The error for a name that is not among ``accepted``: names the key, the value, the choices and the nearest."""
    accepted = [str(name) for name in accepted]
    lower = {name.lower(): name for name in accepted}
    nearest = [lower[name] for name in get_close_matches(str(value).lower(), lower, n=2, cutoff=0.5)]
    message = f'{key}: {value!r} is not known.'
    if nearest:
        message += f' Did you mean {" or ".join(repr(name) for name in nearest)}?'
    if len(accepted) <= 20:
        message += f' Accepted: {", ".join(accepted) or "nothing"}.'
    if hint:
        message += f' {hint}'
    return DistillationError(message)


def check_number(key: str, value, above: Optional[float] = None, least: Optional[float] = None, whole: bool = False):
    """Returns ``value`` if it is a number (a whole one), greater than ``above`` and not less than ``least``.

    Raises:
        DistillationError: otherwise.
    """
    fits = isinstance(value, int if whole else Real) and not isinstance(value, bool)
    fits = fits and (above is None or value > above) and (least is None or value >= least)
    if not fits:
        bound = f' > {above:g}' if above is not None else f' >= {least:g}' if least is not None else ''
        raise DistillationError(f'{key}: {value!r}. Accepted: a {"whole " if whole else ""}number{bound}.')
    return value


def check_flag(key: str, value) -> bool:
    """Returns ``value`` if it is True or False. Raises :class:`DistillationError` otherwise: 'False' would count as true."""
    if not isinstance(value, bool):
        raise DistillationError(f'{key}: {value!r}. Accepted: True or False.')
    return value


def check_arguments(key: str, others: dict, owner: type) -> None:
    """Raises :class:`DistillationError` if something arrived in ``**others`` of a constructor; names its arguments."""
    named = [name for name, one in inspect.signature(owner).parameters.items() if one.kind is not one.VAR_KEYWORD]
    check_known_keys(key, others, named)


def check_known_keys(key: str, given: dict, accepted: Iterable[str]) -> None:
    """Raises :class:`DistillationError` for the first key of ``given`` that is not accepted."""
    accepted = list(accepted)
    for name in given:
        if name not in accepted:
            raise unknown_name(f'{key}.{name}' if key else name, name, accepted)
