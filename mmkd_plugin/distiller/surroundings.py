"""What a distiller finds around it when it is attached: the student, the teachers, the run's work dir."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, Iterable, Mapping, NamedTuple, Optional

from torch import Tensor, nn

from ..taps import TapAddress, without_teacher
from ..utils.errors import DistillationError, unknown_name

Identity = Mapping[str, str]
"""Text of a teacher's config, ``sha256`` of its weights, and where they come from."""


class FollowedModel(NamedTuple):
    """A teacher as a distiller sees it.

    Attributes:
        model: the teacher.
        identity: what is recorded about it.
        run: runs it on an image (1, C, H, W) of the student's.
    """
    model: nn.Module
    identity: Identity
    run: Callable[[Tensor], object]


@dataclass(frozen=True)
class Surroundings:
    """What a distiller finds when it is attached.

    Attributes:
        student: the model that is trained.
        teachers: the models that are followed, by name; ``''`` is the name of one that stands alone under ``teacher``.
        work_dir: the run's work dir, where searches leave their results; None outside of a Runner.
        run_student: runs the student on an image (1, C, H, W); where a look is taken at the networks.
    """
    student: nn.Module
    teachers: Mapping[str, FollowedModel]
    work_dir: Optional[Path] = None
    run_student: Optional[Callable[[Tensor], object]] = None

    def teacher_of(self, addresses: Iterable[str]) -> FollowedModel:
        """The one teacher that all these taps are of.

        Raises:
            DistillationError: where they are of several, or of none that there is.
        """
        return self.teachers[one_teacher(addresses, self.teachers)]

    def artefact(self, given: Optional[str], default: str, accepted: str) -> Any:
        """The file that a search has left: the one that is given, or the one in its place in the work dir.

        Args:
            given: what the config says.
            default: the place in the work dir.
            accepted: what may be given, in words.

        Raises:
            DistillationError: where none is given and there is none in that place.
        """
        if given is not None or self.work_dir is None:
            return given
        path = self.work_dir / default
        if not path.is_file():
            raise DistillationError(f'is not given, and there is no {path}', accepted=accepted)
        return path


def named_teacher(address: str, names: Collection[str]) -> str:
    """The name of the teacher that a tap is of.

    Args:
        address: the tap.
        names: those that there are; ``''`` alone where the config has ``teacher=dict(...)``.

    Raises:
        DistillationError: for a name that there is not, or none where there has to be one.
    """
    name = TapAddress.parse(address).teacher
    if name in names:
        return name
    if '' in names:
        raise DistillationError(f'names a teacher, {name!r}; there is one alone, which has no name', given=address,
                                accepted=repr(without_teacher(address)),
                                hint=f'Names are those of model.teachers: teachers=dict({name}=dict(config=...), ...).')
    if not name:
        raise DistillationError('does not say of which teacher it is', given=address,
                                accepted=', '.join(f"'{each}:{address}'" for each in names))
    raise unknown_name('', name, names, problem=f'is no teacher of model.teachers (in the tap {address!r})')


def one_teacher(addresses: Iterable[str], names: Collection[str]) -> str:
    """The name of the teacher that all these taps are of.

    Args:
        addresses: the taps, at least one.
        names: those that there are.

    Raises:
        DistillationError: where they are of several, or of none that there is.
    """
    found = list(dict.fromkeys(named_teacher(address, names) for address in addresses))
    if len(found) > 1:
        raise DistillationError('has taps of several teachers', given=found, accepted='those of one',
                                hint='Make a distiller for each.')
    return found[0]
