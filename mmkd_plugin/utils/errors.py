"""One exception for everything a user can get wrong, as data: where, what was given, what is accepted, what is near."""
import inspect
import os
import re
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

_NOT_SAID = object()
MOST_LISTED = 30
LONGEST_VALUE, LONGEST_REASON, LONGEST_NAME = 200, 300, 100

BUILD_ERRORS = (TypeError, LookupError, ValueError, AssertionError, AttributeError, ImportError, OSError, RuntimeError,
                ArithmeticError, SyntaxError)
"""What a class raises that is built from a config that does not fit it."""


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
        value = '' if self._given is _NOT_SAID else shown(self._given)
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


def shown(value: Any, longest: int = LONGEST_VALUE) -> str:
    """A value in one line, its middle left out where it is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (a value of a config may be anything; the error is about it, not about its text)
        text = f'<{type(value).__name__}>'
    return shortened(text, longest)


def shortened(text: str, longest: int = LONGEST_REASON) -> str:
    """A text in one line, its middle left out where it is longer than ``longest`` characters."""
    line = ' '.join(text.split()) if '\n' in text or '\r' in text else text
    if len(line) <= longest:
        return line
    end = longest // 4
    return f'{line[:longest - end - 5]} ... {line[-end:]}'


def _from_text(text: str) -> DistillationError:
    return DistillationError(text)


@contextmanager
def under(path: str) -> Iterator[None]:
    """Errors that come from inside stand under this key."""
    try:
        yield
    except DistillationError as error:
        raise error.at(path) from None


@contextmanager
def building(path: Union[str, Callable[[BaseException], str]], hint: str = '') -> Iterator[None]:
    """What classes of others raise while they are built inside becomes one error with this key; its cause stays with it.

    Args:
        path: the key of the config that is built, or a function that tells it from what was raised.
        hint: what to do; where an argument is unknown, that is said anyway.

    Raises:
        DistillationError: for what is raised inside. One of our own passes as it is, if it says where it stands.
    """
    try:
        yield
    except DistillationError as error:
        if not error.path:
            error.at(path if isinstance(path, str) else path(error))
        raise
    except BUILD_ERRORS as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str) else error
        text = shortened(str(reason).split('. Please check whether')[0] or 'no reason is given')
        unknown = re.search(r"unexpected keyword argument '(\w+)'", text)
        if unknown:
            hint = ('A config that inherits another merges dicts: with _delete_=True a dict replaces the inherited one. '
                    f'{hint}').strip()
        if isinstance(error, FileNotFoundError) and not os.path.isabs(str(error.filename or '')):
            with suppress(OSError):  # it may be gone itself
                hint = f'The working directory is {Path.cwd()}. {hint}'.strip()
        nearest = nearest_names(unknown[1], [name for name in _arguments(error) if name != unknown[1]], 1) if unknown else ()
        raise DistillationError(f'cannot be built ({type(error).__name__}: {text})', hint=hint, nearest=nearest,
                                path=path if isinstance(path, str) else path(error)) from error


def _arguments(error: BaseException) -> Sequence[str]:
    """The arguments of the class that a registry of mmengine was building when this was raised; none if it was not."""
    built = [frame.f_locals['obj_cls'] for frame, _ in walk_tb(error.__traceback__) if 'obj_cls' in frame.f_locals]
    known: List[str] = []
    for kind in getattr(built[-1], '__mro__', built[-1:]) if built else ():
        try:
            taken = inspect.signature(kind).parameters
        except (TypeError, ValueError):  # one that is built in says nothing of its arguments
            continue
        known += [name for name, one in taken.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        if not any(one.kind == one.VAR_KEYWORD for one in taken.values()):
            break  # otherwise it hands on to its bases what it does not know itself
    return known


def nearest_files(path: Path, files: Iterable[Union[str, Path]]) -> Sequence[str]:
    """The file whose name, folder and suffix aside, is most like that of ``path``, or begins with it; none where none is.

    Args:
        path: what was looked for.
        files: paths of those that are there; of several with one name the first counts.
    """
    stems: Dict[str, str] = {}
    for file in files:
        stems.setdefault(Path(file).stem, str(file))
    longer = sorted((stem for stem in stems if path.stem and stem.lower().startswith(path.stem.lower())), key=len)
    return [stems[stem] for stem in nearest_names(path.stem, stems, 1) or longer[:1]]


def nearest_names(value: Any, names: Iterable[str], count: int = 2) -> Sequence[str]:
    """The names most like ``value``, whatever their case; none where nothing is similar."""
    lower = {name.lower(): name for name in names}
    try:
        wanted = str(value)[:LONGEST_NAME].lower()  # comparing takes the square of the length
    except RecursionError:
        return []
    return [lower[name] for name in get_close_matches(wanted, lower, n=count, cutoff=0.5)]


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
            key = shortened(str(name), LONGEST_NAME)
            error = unknown_name(f'{path}.{key}' if path else key, name, accepted, hint, 'is no key here')
            if hint:
                error.nearest = ()  # the advice knows better
            raise error
