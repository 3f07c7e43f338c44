"""One exception for everything a user can get wrong, as data: where, what was given, what is accepted, what is near."""
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

_NOT_SAID = object()
MOST_LISTED = 30


class DistillationError(ValueError):
    """A distillation config, checkpoint, result file or batch that cannot be used as given.

    The parts are data; the message is made of them when it is shown. Whoever builds or runs something on behalf of a key
    adds that key once, with :func:`under`.

    Args:
        problem: what is wrong, where the value alone does not say it.
        path: the key, as a user would write it: ``'pairs[0]'``, ``'model.teacher.checkpoint'``.
        given: the value found there.
        accepted: what may stand there.
        nearest: the valid names that are most like ``given``.
        hint: what to do.
    """

    def __init__(self, problem: str = '', *, path: str = '', given: Any = _NOT_SAID, accepted: str = '',
                 nearest: Sequence[str] = (), hint: str = ''):
        super().__init__(problem)
        self.problem, self.path, self.accepted, self.nearest, self.hint = problem, path, accepted, tuple(nearest), hint
        self._given = given

    @property
    def given(self) -> Any:
        """The value that was found, None where the error is about no value."""
        return None if self._given is _NOT_SAID else self._given

    def at(self, path: str) -> 'DistillationError':
        """Itself, its path continued upwards: ``'pairs'`` at ``'model.distillers.mgd'``."""
        joint = '.' if path and self.path and not self.path.startswith('[') else ''
        self.path = f'{path}{joint}{self.path}'
        return self

    def __str__(self) -> str:
        value = '' if self._given is _NOT_SAID else repr(self._given)
        sentences = [' '.join(part for part in (value, self.problem) if part)]
        if self.nearest:
            sentences.append(f'Did you mean {" or ".join(map(repr, self.nearest))}?')
        if self.accepted:
            sentences.append(f'Accepted: {self.accepted}')
        sentences.append(self.hint)
        text = ' '.join(sentence if sentence[-1] in '.?!' else f'{sentence}.' for sentence in sentences if sentence)
        return f'{self.path}: {text}' if self.path else text

    def __reduce__(self) -> Tuple[Any, ...]:
        # What cannot be pickled (a value from a config may be anything) must not hide the error in a worker process.
        return _from_text, (str(self),)


def _from_text(text: str) -> DistillationError:
    return DistillationError(text)


@contextmanager
def under(path: str) -> Iterator[None]:
    """Errors that come from inside stand under this key."""
    try:
        yield
    except DistillationError as error:
        raise error.at(path) from None


def nearest_names(value: Any, names: Iterable[str], count: int = 2) -> Sequence[str]:
    """The names most like ``value``, whatever their case; none where nothing is similar."""
    lower = {name.lower(): name for name in names}
    return [lower[name] for name in get_close_matches(str(value).lower(), lower, n=count, cutoff=0.5)]


def unknown_name(path: str, value: Any, names: Iterable[Any], hint: str = '',
                 problem: str = 'is not known') -> DistillationError:
    """The error for a name that is none of ``names``; they are listed unless there are more than 30."""
    names = [str(name) for name in names]
    accepted = (', '.join(names) or 'nothing') if len(names) <= MOST_LISTED else ''
    return DistillationError(problem, path=path, given=value, accepted=accepted, nearest=nearest_names(value, names),
                             hint=hint)


def check_known_keys(path: str, given: Iterable[str], accepted: Iterable[str],
                     hints: Optional[Mapping[str, str]] = None) -> None:
    """Raises :class:`DistillationError` for the first key of ``given`` that is not accepted.

    Args:
        path: where the dict with these keys stands in the config; '' for the top.
        given: the keys that were found.
        accepted: the keys that may be there.
        hints: for a key that is known to be wrong, what to do about it.
    """
    accepted = list(accepted)
    for name in given:
        if name not in accepted:
            hint = (hints or {}).get(name, '')
            error = unknown_name(f'{path}.{name}' if path else str(name), name, accepted, hint, 'is no key here')
            if hint:
                error.nearest = ()  # the advice knows better
            raise error
