"""The teachers of one student, by name: each tap goes to the one that it names, and each runs by itself."""
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from torch import Tensor, nn

from ..distiller import FollowedModel, named_teacher, one_teacher
from ..runtime import Runtime
from ..taps import FeatureSum, TapInfo
from ..utils.errors import DistillationError
from .teacher import Teacher, build_teacher
from .teacher_module import build_module_teacher


class Teachers:
    """One teacher or several. Like a :class:`Teacher` it is held outside the student's module tree.

    Args:
        by_name: at least one; ``''`` is the name of one that stands alone under ``teacher``.

    Attributes:
        by_name: the teachers.
    """

    def __init__(self, by_name: Mapping[str, Teacher]):
        self.by_name = dict(by_name)

    @property
    def only(self) -> Teacher:
        """The teacher, where there is one. Raises :class:`DistillationError` where there are several."""
        if len(self.by_name) > 1:
            raise DistillationError(f'there are several: {", ".join(self.by_name)}', path='model.teachers',
                                    accepted='one, for what asks for the only teacher')
        return next(iter(self.by_name.values()))

    @property
    def followed(self) -> Dict[str, FollowedModel]:
        """What distillers see of them."""
        return {name: FollowedModel(teacher.model, teacher.identity, teacher.try_out)
                for name, teacher in self.by_name.items()}

    @property
    def identity(self) -> Dict[str, str]:
        """What is recorded about them in checkpoints, ``sha256`` and others, of one with a name under ``<name>.sha256``."""
        return {f'{name}.{key}' if name else key: value for name, teacher in self.by_name.items()
                for key, value in teacher.identity.items()}

    @property
    def info(self) -> Dict[str, TapInfo]:
        """What the dry runs have found out about all taps, by address."""
        return {address: info for teacher in self.by_name.values() for address, info in teacher.taps.info.items()}

    def of(self, addresses: Sequence[str]) -> Teacher:
        """The one teacher that all these taps are of. Raises :class:`DistillationError` where there is none."""
        return self.by_name[one_teacher(addresses, self.by_name)]

    def tap(self, address: str) -> None:
        """Adds a tap to the teacher that it names. Raises :class:`DistillationError` for a wrong address."""
        teacher = self.by_name[named_teacher(address, self.by_name)]
        teacher.taps.add(teacher.model, [address])

    def check_that_each_is_needed(self) -> None:
        """Raises :class:`DistillationError` for a teacher with a name that no tap has."""
        for name, teacher in self.by_name.items():
            if name and not teacher.taps.taps:
                raise DistillationError('is needed by no distiller', path=f'model.teachers.{name}',
                                        accepted=f"taps '{name}:<address>' in the distillers, or one teacher less")

    @property
    def runtimes(self) -> Dict[str, Runtime]:
        """What runs each of them, by its name; one without a name is called teacher."""
        return {name or 'teacher': teacher.runtime for name, teacher in self.by_name.items()}

    @property
    def choices(self) -> Optional[Dict[str, Dict[str, bool]]]:
        """For the checkpoint, what ``runtime='auto'`` has chosen, by the name of the teacher; None where it has not."""
        found = {name: runtime.choice for name, runtime in self.runtimes.items()}
        return {name: choice for name, choice in found.items() if choice is not None} or None

    def settle(self, student: nn.Module, image: Tensor) -> None:
        """Settles the taps of each by a dry run on ``image`` (1, C, H, W), and sets up the input for this student."""
        for teacher in self.by_name.values():
            teacher.settle(student, image)

    def features(self, inputs: Tensor, data_samples: Any = None, addresses: Optional[Sequence[str]] = None,
                 sums: Sequence[FeatureSum] = ()) -> Dict[str, Tensor]:
        """Features of the student's batch; see :meth:`Teacher.features`. A teacher that none of them is of does not run."""
        asked = self._asked(addresses, sums)
        return _merged([teacher.features(inputs, data_samples, *wanted) for teacher, wanted in asked])

    def start(self, inputs: Tensor, data_samples: Any = None, addresses: Optional[Sequence[str]] = None,
              sums: Sequence[FeatureSum] = ()) -> Callable[[], Dict[str, Tensor]]:
        """Before the student's forward; see :meth:`Teacher.start`. Returns what gives the :meth:`features`."""
        waiting = [teacher.start(inputs, data_samples, *wanted) for teacher, wanted in self._asked(addresses, sums)]
        return lambda: _merged([features() for features in waiting])

    def _asked(self, addresses: Optional[Sequence[str]],
               sums: Sequence[FeatureSum]) -> List[Tuple[Teacher, Tuple[List[str], List[FeatureSum]]]]:
        """The teachers that have to run, each with its own of the addresses and the sums."""
        wanted: Dict[str, List[str]] = {name: [] for name in self.by_name}
        for address in self.info if addresses is None else addresses:
            wanted[named_teacher(address, self.by_name)].append(address)
        summed: Dict[str, List[FeatureSum]] = {name: [] for name in self.by_name}
        for total in sums:
            summed[one_teacher(total.addresses, self.by_name)].append(total)
        return [(teacher, (wanted[name], summed[name])) for name, teacher in self.by_name.items()
                if wanted[name] or summed[name]]


def _merged(features: Sequence[Dict[str, Tensor]]) -> Dict[str, Tensor]:
    return {name: feature for found in features for name, feature in found.items()}


def build_teachers(cfgs: Mapping[str, Mapping[str, Any]]) -> Teachers:
    """Builds the teachers of a distillation config.

    Args:
        cfgs: the block of each by name, ``''`` for the one under ``teacher``; see
            :class:`~mmkd_plugin.model.teacher.TeacherOptions` and
            :class:`~mmkd_plugin.model.teacher_module.ModuleTeacherOptions`.

    Raises:
        DistillationError: for a block that does not fit.
    """
    found = {}
    for name, cfg in cfgs.items():
        build = build_module_teacher if cfg.get('module') is not None else build_teacher
        found[name] = build(cfg, f'model.teachers.{name}' if name else 'model.teacher')
    return Teachers(found)
