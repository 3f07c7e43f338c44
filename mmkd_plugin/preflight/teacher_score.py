"""How good teachers are on validation images, seen as they see them in the training: from the student's batch."""
import time
from typing import Any, Iterator, List, Mapping

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset

from ..model import DistilledMixin, Teacher, distilled
from ..model.teacher_module import ModuleTeacher
from ..utils.errors import building, shortened
from ..utils.isolation import evaluation_mode, preserved_rng
from .measured import TeacherScore


def score_teachers(runner: Runner, cfg: Config, images: int, seconds: float,
                   per_pixel: float = 0.0) -> Iterator[TeacherScore]:
    """The metrics of each teacher on images spread evenly over the validation set.

    Args:
        runner: a runner with distillation attached.
        cfg: the config whose ``val_dataloader`` and ``val_evaluator`` are taken; a search has none of its own.
        images: on so many images, at most.
        seconds: a teacher is not asked again once so many are over; with 0 it is not asked at all.
        per_pixel: what a pixel of an image takes, in seconds: a teacher for which the first image takes longer than there
            is time is not asked.

    Yields:
        A score for each, also where it could not be measured, which it says then.
    """
    for teacher in _teachers(runner):
        if images < 1:
            yield TeacherScore(teacher.path, why_not='not asked for')
        elif seconds <= 0:
            yield TeacherScore(teacher.path, why_not='no time was left (--seconds)')
        elif isinstance(teacher, ModuleTeacher):
            yield TeacherScore(teacher.path, why_not='it is a module alone, whose predictions are not known')
        elif teacher.size_multiple > 1:
            yield TeacherScore(teacher.path, why_not='its images are resized (size_multiple)')
        elif not isinstance(cfg.get('val_dataloader'), dict) or not cfg.get('val_evaluator'):
            yield TeacherScore(teacher.path, why_not='the config has no val_dataloader and val_evaluator')
        else:
            yield _score(distilled(runner), teacher, runner, cfg, images, seconds, per_pixel)


def _teachers(runner: Runner) -> List[Teacher]:
    distillation = distilled(runner).distillation
    assert distillation is not None
    return list(distillation.teachers.by_name.values())


def _score(model: DistilledMixin, teacher: Teacher, runner: Runner, cfg: Config, images: int, seconds: float,
           per_pixel: float) -> TeacherScore:
    with building('val_dataloader'):
        loader = _spread(cfg.val_dataloader, images)
    with building('val_evaluator'):
        evaluator = runner.build_evaluator(cfg.val_evaluator)
    meta = getattr(loader.dataset.dataset, 'metainfo', None)  # type: ignore[attr-defined]  # a Subset
    if meta:
        evaluator.dataset_meta = meta
    seen, end = 0, time.perf_counter() + seconds
    names: List[Any] = []
    try:
        with preserved_rng(), evaluation_mode(model), torch.no_grad():
            for data in loader:
                inputs, samples = model.forward_arguments(model.data_preprocessor(data, False))
                takes = per_pixel * inputs[:, 0].numel()
                if not seen and time.perf_counter() + takes > end:
                    return TeacherScore(teacher.path, why_not=f'{len(inputs)} of {inputs.shape[2]}x{inputs.shape[3]} would '
                                        f'take it about {takes:.0f} s, more than is left (--seconds)')
                found = teacher.model(teacher.shown(inputs), samples, mode='predict')
                evaluator.process(data_samples=found, data_batch=data)
                seen += len(inputs)
                names += [getattr(sample, 'metainfo', {}).get('img_id') for sample in found]
                if time.perf_counter() > end:
                    break
        for metric in evaluator.metrics:
            if hasattr(metric, 'img_ids'):  # COCO's counts the images that were not seen, otherwise
                metric.img_ids = names
        metrics = evaluator.evaluate(seen)
    except Exception as error:  # noqa: BLE001 (networks and metrics of others; the training itself does not need this)
        return TeacherScore(teacher.path, seen, why_not=f'it failed ({shortened(f"{type(error).__name__}: {error}")})')
    classes = meta.get('classes') if isinstance(meta, Mapping) else None
    return TeacherScore(teacher.path, seen, {name: float(value) for name, value in metrics.items() if _is_number(value)},
                        len(classes) if classes else None)


def _spread(cfg: Mapping[str, Any], images: int) -> 'DataLoader[Any]':
    """A loader of images that are spread evenly over a data set, in its order; loaded in this process."""
    plain = {name: value for name, value in cfg.items() if name not in ('prefetch_factor', 'persistent_workers')}
    whole = Runner.build_dataloader(dict(plain, num_workers=0))
    count = len(whole.dataset)
    chosen = sorted({number * count // min(images, count) for number in range(min(images, count))})
    return DataLoader(Subset(whole.dataset, chosen), batch_size=whole.batch_size or 1, collate_fn=whole.collate_fn)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
