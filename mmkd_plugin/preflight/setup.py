"""What checks look at: a run's config, and as much of what is built from it as there is."""
from collections.abc import Sized
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..dfa import FeatureAggregationDistiller
from ..distiller import Distiller, ParsedPair
from ..distiller.build import registered
from ..model import Distillation, DistilledMixin, distilled
from ..model.run_checks import is_distilled_config
from ..taps import TapInfo
from ..utils.errors import DistillationError
from .measured import Measured


@dataclass(frozen=True)
class Part:
    """A distiller or a hook of this package.

    Attributes:
        key: where it stands in the config.
        kind: its class.
        options: its options, as read.
    """
    key: str
    kind: type
    options: Any

    def is_a(self, *names: str) -> bool:
        """Whether it is of one of these classes, by name, or derived from one."""
        return any(base.__name__ in names for base in self.kind.__mro__)


@dataclass(frozen=True)
class ComparedPair:
    """A feature of the student, and those of the teacher that it is compared with.

    Attributes:
        key: where the pair stands in the config.
        distiller: the name of the distiller.
        student: what the dry run has found out about the student's tap.
        teacher: the same for the teacher's taps, shallow to deep.
    """
    key: str
    distiller: str
    student: TapInfo
    teacher: Sequence[TapInfo]


@dataclass
class Setup:
    """A run that is looked at.

    Attributes:
        cfg: its whole config.
        iterations: how many iterations it has; None where only the data set would tell.
        per_epoch: how many iterations one pass over the training images takes; None as above.
        model: the student with distillation attached; None where it has not been built.
        measured: what a few iterations have shown; None where they have not been run.
        of_training: the config is that of the search which the training's config describes under ``search``; keys are
            those of the training's config then.
    """
    cfg: Config
    iterations: Optional[int] = None
    per_epoch: Optional[int] = None
    model: Optional[DistilledMixin] = None
    measured: Optional[Measured] = None
    of_training: bool = False
    given_hooks: Sequence[Any] = field(default_factory=list)

    @classmethod
    def of_runner(cls, runner: Runner, **more: Any) -> 'Setup':
        """That of a runner whose training is about to begin."""
        return cls(runner.cfg, *length_of(runner), distilled(runner), given_hooks=runner.hooks, **more)

    @classmethod
    def of_config(cls, cfg: Config, **more: Any) -> 'Setup':
        """That of a config from which nothing has been built."""
        loop = cfg.get('train_cfg') or {}
        return cls(cfg, loop.get('max_iters'), **more)

    @property
    def has(self) -> Sequence[str]:
        """What there is for checks to look at, of ``NEEDS``."""
        return ['config', *(['models'] if self.model is not None and self.model.distillation is not None else []),
                *(['run'] if self.measured is not None else [])]

    @property
    def block(self) -> Mapping[str, Any]:
        """The config of the distilled model; empty where there is none."""
        model = self.cfg.get('model')
        return model if is_distilled_config(model) else {}

    @property
    def teachers(self) -> Dict[str, Mapping[str, Any]]:
        """The blocks of the teachers by their keys in the config."""
        several = self.block.get('teachers')
        found = {f'model.teachers.{name}': block for name, block in several.items()} if isinstance(several, dict) else {
            'model.teacher': self.block.get('teacher')}
        return {key: block for key, block in found.items() if isinstance(block, dict)}

    @cached_property
    def distillers(self) -> Dict[str, Part]:
        """The distillers by name; of those whose options do not fit, none: that is an error of its own."""
        if not self.block and 'models' in self.has:
            return {name: Part(distiller.path, type(distiller), distiller.options)
                    for name, distiller in self.distillation.distillers.items()}
        blocks = self.block.get('distillers')
        parts = {name: _part(f'model.distillers.{name}', block, registered)
                 for name, block in (blocks.items() if isinstance(blocks, dict) else ())}
        return {name: part for name, part in parts.items() if part is not None and issubclass(part.kind, Distiller)}

    @cached_property
    def hooks(self) -> List[Part]:
        """The hooks of this package."""
        listed = self.cfg.get('custom_hooks')
        blocks = [(self._key_of_hook(number), block)
                  for number, block in enumerate(listed if isinstance(listed, (list, tuple)) else ())]
        if self.given_hooks:
            return [Part(_key_in(blocks, type(hook).__name__), type(hook), hook.options)
                    for hook in self.given_hooks if hasattr(hook, 'options') and hasattr(type(hook), 'Options')]
        with DefaultScope.overwrite_default_scope(self.cfg.get('default_scope') or 'mmengine'):
            parts = [_part(key, block, HOOKS.get) for key, block in blocks]
        return [part for part in parts if part is not None]

    def _key_of_hook(self, number: int) -> str:
        """Where a custom hook stands."""
        return 'search.hook' if self.of_training and number == 0 else f'custom_hooks[{number}]'

    @property
    def searches(self) -> bool:
        """Whether the run is a search, whose student is not to be used."""
        return any(getattr(part.options, 'mode', None) == 'search' for part in self.distillers.values())

    @property
    def distillation(self) -> Distillation:
        """What hangs on the student; for checks that need the models."""
        assert self.model is not None
        assert self.model.distillation is not None
        return self.model.distillation

    @property
    def image_size(self) -> Sequence[int]:
        """(H, W) of the image of the dry run, for checks that need the models."""
        assert self.model is not None
        size: Sequence[int] = self.model.distillation_cfg['image_shape'][1:]
        return size

    @cached_property
    def pairs(self) -> List[ComparedPair]:
        """What is compared with what, for checks that need the models. DistPro compares levels with one another."""
        student, teacher = self.distillation.student_taps.info, self.distillation.teachers.info
        found = []
        for name, distiller in self.distillation.distillers.items():
            if isinstance(distiller, FeatureAggregationDistiller):
                compared = [(group.student, list(group.teacher)) for group in distiller.connected_groups()]
            else:
                compared = [(pair.student, pair.teacher_taps) for pair in listed_pairs(distiller.options)[1]]
            for number, (ours, theirs) in enumerate(compared):
                if ours in student and all(tap in teacher for tap in theirs):
                    key = f'{distiller.path}.{listed_pairs(distiller.options)[0]}[{number}]'
                    found.append(ComparedPair(key, name, student[ours], [teacher[tap] for tap in theirs]))
        return found


def listed_pairs(options: Any) -> Tuple[str, List[ParsedPair]]:
    """The option of a distiller that lists what is compared, and what it lists; ``('', [])`` where it has none."""
    for name, value in vars(options).items():
        if isinstance(value, list) and value and all(isinstance(pair, ParsedPair) for pair in value):
            return name, value
    return '', []


def _part(key: str, block: Any, find: Any) -> Optional[Part]:
    """A block of a config as a part; None where it is none of ours, or its options do not fit."""
    if not isinstance(block, dict) or 'type' not in block:
        return None
    kind = find(block['type']) if isinstance(block['type'], str) else block['type']
    if not isinstance(kind, type) or not hasattr(kind, 'Options'):
        return None
    try:
        return Part(key, kind, kind.Options.read({name: value for name, value in block.items() if name != 'type'}))
    except DistillationError:
        return None


def _key_in(blocks: Sequence[Tuple[str, Any]], name: str) -> str:
    """The key of the first hook of a class; its name where the config lists none."""
    return next((key for key, block in blocks if isinstance(block, dict)
                 and str(getattr(block.get('type'), '__name__', block.get('type'))).split('.')[-1] == name), name)


def length_of(runner: Runner) -> Tuple[int, Optional[int]]:
    """How many iterations a run has, and how many are one pass over the training images; None where a stream has no end."""
    loop, loader = runner.train_loop, runner.train_dataloader
    if not isinstance(loader.dataset, Sized):
        return loop.max_iters, None
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.max_iters, len(loader)
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None)  # None where a batch sampler was given
    return loop.max_iters, max(1, len(loader.dataset) // (size * get_world_size())) if size else None
