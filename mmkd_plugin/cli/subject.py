"""What the commands look at before a training: the student of a config, its teacher, and the batches of its pipeline."""
import copy
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from ..model.overlay import ModelOptions
from ..model.plain import student_of
from ..model.run_checks import is_distilled_config
from ..model.teacher import Teacher
from ..model.teacher_input import to_multiple
from ..model.teachers import build_teachers
from ..taps.places import Place, find_places
from ..utils.config import load_config, package_of
from ..utils.errors import BUILD_ERRORS, DistillationError, building, shortened, under
from ..utils.launch import replace_sync_bn

DEFAULT_SHAPE: Tuple[int, int, int] = (3, 128, 128)
LOOKED_AT = 2
"""Images of the batch that is read from the pipeline."""


@dataclass(frozen=True)
class Subject:
    """A student and its teachers, built with random weights.

    Attributes:
        cfg: the config, of a student alone or distilled.
        student: the student.
        teachers: by name, ``''`` for one that stands alone; empty where none is named.
    """
    cfg: Config
    student: nn.Module
    teachers: Dict[str, Teacher]

    def places(self, shape: Sequence[int] = DEFAULT_SHAPE) -> List[Place]:
        """The places of the student that are worth tapping, on an image of this shape (C, H, W)."""
        with quiet():
            return find_places(self.student, torch.zeros(1, *shape))

    def places_of(self, name: str, shape: Sequence[int] = DEFAULT_SHAPE) -> List[Place]:
        """The places of a teacher that are worth tapping; the addresses are without its name."""
        teacher = self.teachers[name]
        with quiet():
            return find_places(teacher.model, to_multiple(torch.zeros(1, *shape), teacher.size_multiple), teacher.forward)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, mm's packages do not warn of deprecated keys in configs that are not the user's."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', module='mm')
        yield


def look_at(config: str, teacher: Optional[str] = None) -> Subject:
    """Builds the student of a config and its teacher, without their weights.

    Args:
        config: a path or ``package::path``, of a student alone or of a distilled one.
        teacher: the same, of a teacher; None for those of a distilled config.

    Raises:
        DistillationError: if a config is not found or does not build.
    """
    cfg = load_config(config, 'config')
    model = cfg.get('model')
    if not isinstance(model, dict):
        raise DistillationError(path='model', given=model, accepted='a dict', hint=f'{config} is the config of no run.')
    scope = cfg.get('default_scope') or package_of(config)
    if scope:
        init_default_scope(scope)
    blocks: Dict[str, Any] = {'': dict(config=teacher)} if teacher is not None else {}
    if is_distilled_config(model) and not blocks:
        with under('model'):
            read = ModelOptions.read({key: value for key, value in model.items() if key not in ('type', '_scope_')})
        blocks = {'': read.teacher} if read.teachers is None else dict(read.teachers)
    blocks = {name: _without_weights(block) for name, block in blocks.items()}
    with quiet():
        return Subject(cfg, build_student(cfg), build_teachers(blocks).by_name if blocks else {})


def build_student(cfg: Config) -> nn.Module:
    """The student of a config, with random weights; a distilled config's is the plain one."""
    student = copy.deepcopy(student_of(cfg))
    replace_sync_bn(student)
    with building('model.student' if is_distilled_config(cfg.model) else 'model'):
        model: nn.Module = MMENGINE_MODELS.build(student)
    return revert_sync_batchnorm(model)  # type: ignore[no-any-return]  # mmengine carries no types


def _without_weights(block: Dict[str, Any]) -> Dict[str, Any]:
    kept = {key: value for key, value in block.items() if key not in ('checkpoint', 'runtime')}
    return dict(kept, allow_random_weights=True)


@dataclass(frozen=True)
class Pipeline:
    """What a training pipeline gives.

    Attributes:
        shape: (C, H, W) of a batch, as the model gets it; None where no batch could be read.
        images: how many there are in the training set; None likewise.
        batch_size: that of the loader.
        problem: why no batch could be read.
    """
    shape: Optional[Tuple[int, int, int]]
    images: Optional[int]
    batch_size: int
    problem: str = ''

    def iterations(self, cfg: Config) -> Optional[int]:
        """How many iterations a training has with this pipeline; None where that cannot be told."""
        loop = cfg.get('train_cfg') or {}
        if loop.get('max_iters'):
            return int(loop['max_iters'])
        if loop.get('max_epochs') and self.images:
            return int(loop['max_epochs']) * -(-self.images // self.batch_size)
        return None


def read_pipeline(cfg: Config, student: nn.Module) -> Pipeline:
    """Reads two images of the training set through the pipeline and the student's preprocessor.

    Where that does not work (the data are not there yet), the shape is None, and it is said why.

    Args:
        cfg: the config of a run.
        student: the student, for its preprocessor.
    """
    loader = copy.deepcopy(cfg.get('train_dataloader') or {})
    batch_size = int(loader.get('batch_size') or 1)
    if not loader:
        return Pipeline(None, None, batch_size, 'the config has no train_dataloader')
    loader.update(num_workers=0, persistent_workers=False, batch_size=LOOKED_AT)
    loader.pop('prefetch_factor', None)
    try:
        with quiet():
            built = Runner.build_dataloader(loader, seed=0)
            batch = next(iter(built))
            preprocessor: Any = student.data_preprocessor
            inputs = preprocessor(batch, True)['inputs']
        channels, height, width = inputs.shape[1:]
        images = len(built.dataset)
    except (*BUILD_ERRORS, StopIteration) as error:
        return Pipeline(None, None, batch_size, shortened(f'{type(error).__name__}: {error}', 120))
    return Pipeline((channels, height, width), images, batch_size)
