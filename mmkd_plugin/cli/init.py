"""``mmkd init``: from a student's config and a teacher's to a distilled config in its shortest form."""
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from ..model.default_checkpoint import default_checkpoint
from ..model.overlay import DistilledMixin
from ..model.run_checks import is_distilled_config
from ..search.derive import derive_search
from ..taps.suggestions import suggest_logits
from ..utils.config import OWN, find_config, load_config, package_of
from ..utils.errors import DistillationError, unknown_name
from ..utils.files import existing_file
from ..utils.launch import check_file_place, replace_sync_bn
from ..utils.work_dirs import latest_checkpoint, work_dir_of
from ..version import __version__
from .methods import (
    CLASSIFICATION,
    DETECTION,
    METHODS,
    OTHER,
    SEGMENTATION,
    Decision,
    Plan,
    Situation,
    make_plan,
)
from .render import rendered
from .subject import DEFAULT_SHAPE, Pipeline, Subject, look_at, quiet, read_pipeline

COMMAND = 'mmkd init'
TASKS = dict(mmdet=DETECTION, mmseg=SEGMENTATION, mmpretrain=CLASSIFICATION)


@dataclass(frozen=True)
class Request:
    """What is asked of ``mmkd init``.

    Attributes:
        config: the config of the student's training, a path or ``package::path``.
        teacher: the config of the teacher, likewise.
        checkpoint: the teacher's weights; None: they follow from its config.
        methods: names, see :data:`~mmkd_plugin.cli.methods.METHODS`.
        out: the file that is written; None: ``work_dirs/<methods>_<teacher>_<config>.py``.
        force: whether a file that is there is replaced.
    """
    config: str
    teacher: str
    checkpoint: Optional[str] = None
    methods: Sequence[str] = ('mgd',)
    out: Optional[Path] = None
    force: bool = False

    @property
    def file(self) -> Path:
        """The file that is written."""
        teacher = Path(self.teacher.split('::')[-1]).stem
        name = f'{"-".join(self.methods)}_{teacher}_{Path(self.config.split("::")[-1]).name}'
        return self.out or Path('work_dirs') / name


def init(request: Request) -> List[Decision]:
    """Writes a distilled config, and sees that it builds.

    Args:
        request: what is asked for.

    Returns:
        What was decided, with the reasons.

    Raises:
        DistillationError: for configs that are not found or do not build, a teacher without weights, a method that is not
            for these models, or a file that cannot be written.
    """
    for name in request.methods:
        if name not in METHODS:
            raise unknown_name('--method', name, METHODS)
    file = request.file
    _check_file(request, file)
    subject = look_at(request.config, request.teacher)
    if is_distilled_config(subject.cfg.get('model')):
        raise DistillationError('is distilled already', path='config', given=request.config,
                                accepted="the config of the student's training alone")
    checkpoint = teacher_checkpoint(request)
    pipeline = read_pipeline(subject.cfg, subject.student)
    situation = situation_of(subject, pipeline)
    plan = make_plan(request.methods, situation)
    shape = _image_shape(plan, pipeline)
    plan.decisions.append(checkpoint)
    base, imports, folder = base_of(request.config, file), _imports(subject.cfg), _work_dir(plan, subject.cfg, file)
    text = rendered(_header(request), base, imports, _teacher(request, checkpoint), shape, folder, plan)
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.read_bytes() if file.exists() else None
    file.write_text(text)
    try:
        _verify(file)
    except BaseException:  # left there it would be taken for one that works, by `mmkd distill` for one
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)
        raise
    return plan.decisions


def situation_of(subject: Subject, pipeline: Pipeline) -> Situation:
    """What the decisions about a student and its teacher follow from.

    Args:
        subject: the two, with one teacher.
        pipeline: what the training set gives.
    """
    name = next(iter(subject.teachers))
    student, teacher = subject.places(), subject.places_of(name)
    logits = suggest_logits(student, student)
    scope = subject.cfg.get('default_scope')
    task = TASKS.get(str(scope), OTHER)
    if task == OTHER and logits is not None:
        task = SEGMENTATION if logits[0].size else CLASSIFICATION
    return Situation(subject.cfg, student, teacher, subject.teachers[name].model, task, pipeline.batch_size,
                     pipeline.iterations(subject.cfg), _has_sync(subject.cfg.model))


def _has_sync(node: Any) -> bool:
    if isinstance(node, dict):
        return node.get('type') == 'SyncBN' or any(map(_has_sync, node.values()))
    return isinstance(node, (list, tuple)) and any(map(_has_sync, node))


def teacher_checkpoint(request: Request) -> Decision:
    """Which weights the teacher has: those that are given, the published ones, or the latest in its work dir.

    Raises:
        DistillationError: if there are none.
    """
    if request.checkpoint is not None:
        existing_file(request.checkpoint, '--checkpoint')
        return Decision('teacher.checkpoint', request.checkpoint, 'as given')
    if package_of(request.teacher) is None:
        found = latest_checkpoint(work_dir_of(load_config(request.teacher, '--teacher')))
        if found is not None:
            return Decision('teacher.checkpoint', str(found), 'the latest in its work dir')
    try:
        default = default_checkpoint(request.teacher, load_config(request.teacher, '--teacher'))
    except DistillationError as error:
        error.path = '--checkpoint'
        raise
    if package_of(request.teacher) is not None:
        return Decision('teacher.checkpoint', default, 'the published one of its package')
    beside = Path(default).parent == find_config(request.teacher, '--teacher').parent
    return Decision('teacher.checkpoint', default, 'that beside its config' if beside else 'the last of its training')


def base_of(config: str, file: Path) -> str:
    """How a config names another one as its base: as it is given, or the path from its own folder.

    A config of this package is named by its path, since mmengine knows the package's name only once it has been imported.

    Args:
        config: a path or ``package::path``.
        file: the config that inherits.
    """
    if package_of(config) is not None:
        return config
    path = find_config(config, 'config').resolve()
    return str(path) if '::' in config else Path(os.path.relpath(path, file.parent.resolve())).as_posix()


def _check_file(request: Request, file: Path) -> None:
    if file.suffix != '.py':
        raise DistillationError(path='-o', given=str(file), accepted='the name of a .py file')
    if file.exists() and not request.force:
        raise DistillationError('is there already', path='-o', given=str(file), accepted='another name, or --force')
    check_file_place(file, '-o')


def check_made_by(request: Request) -> None:
    """Sees that a file that is there was made for what is asked for now, where it says what it was made for.

    Raises:
        DistillationError: for other flags, which would be ignored.
    """
    made_by = re.search(rf'^# +({COMMAND} .*)$', request.file.read_text(errors='replace'), re.MULTILINE)
    if made_by and made_by[1] != _command(request):
        raise DistillationError(f'was made by `{made_by[1]}`', path='-o', given=str(request.file),
                                accepted='--force, which writes it anew, another name, or the flags that it was made by')


def _command(request: Request) -> str:
    flags = f'--teacher {request.teacher}' + (f' --checkpoint {request.checkpoint}' if request.checkpoint else '')
    return f'{COMMAND} {request.config} {flags} --method {",".join(request.methods)}'


def _header(request: Request) -> List[str]:
    return [f'Made by mmkd_plugin {__version__}:', f'    {_command(request)}',
            'All of it may be changed: docs/options.md has the keys. The hooks of the base stay, a method brings its own.']


def _imports(cfg: Config) -> List[str]:
    """What the base imports, which a list here would replace, and this package."""
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    return list(dict.fromkeys([*([imports] if isinstance(imports, str) else imports), OWN]))


def _teacher(request: Request, checkpoint: Decision) -> Dict[str, Any]:
    teacher = dict(config=request.teacher)
    if request.checkpoint is not None or package_of(request.teacher) is None:
        teacher['checkpoint'] = checkpoint.value
    return teacher


def _image_shape(plan: Plan, pipeline: Pipeline) -> Optional[Tuple[int, int, int]]:
    if pipeline.shape is None:
        plan.decisions.append(Decision('image_shape', DEFAULT_SHAPE, f'the default, as no training image could be read '
                                       f'({pipeline.problem})'))
        return None
    plan.decisions.append(Decision('image_shape', pipeline.shape, 'that of a batch of the training pipeline'))
    return pipeline.shape


def _work_dir(plan: Plan, cfg: Config, file: Path) -> Optional[str]:
    """A work dir of its own where the base names one: there the student alone is trained, and would be gone on from."""
    if cfg.get('work_dir') is None:
        return None
    folder = Path('work_dirs', file.stem).as_posix()
    plan.decisions.append(Decision('work_dir', folder, "its own, as the base names the student's"))
    return folder


def _verify(file: Path) -> None:
    """Builds the student, teacher and distillers of a written config, without the teacher's weights."""
    cfg = load_config(file, 'config')
    if cfg.get('search') is not None:
        cfg = derive_search(cfg)  # what it finds is not there yet, which the training needs
    model = cfg._cfg_dict['model']
    replace_sync_bn(model)
    model['teacher'].update(checkpoint=None, allow_random_weights=True)
    if math.prod(model.get('image_shape', DEFAULT_SHAPE)) > math.prod(DEFAULT_SHAPE):
        model['image_shape'] = DEFAULT_SHAPE  # the places have been found on it; a large image takes long
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with quiet():
        student: nn.Module = MMENGINE_MODELS.build(model)
        assert isinstance(student, DistilledMixin), 'that is what was written'
        student.attach_distillation()
