"""Example pictures: validation images with the truth, and with what teacher and students make of them."""
import copy
import logging
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATASETS, DefaultScope
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.utils import import_modules_from_strings
from PIL import Image
from torch import nn

from ..model.plain import student_of
from ..model.teachers import build_teachers
from ..utils.dataset_configs import innermost
from ..utils.errors import DistillationError, building, shortened
from ..utils.files import load_weights
from ..utils.launch import replace_sync_bn
from .compare import ALONE, DISTILLED, ORDER, PLAIN, TEACHER, Comparison
from .panels import Painter, Panel, Said, picture, said_by_annotation, said_by_network
from .runs import Run

RESIZES = ('Resize', 'RandomResize', 'ResizeEdge', 'RandomChoiceResize')


@dataclass
class Examples:
    """Example pictures.

    Attributes:
        rows: for each image its panels: the image, the truth, and what each network says.
        classes: those that are seen, with their colours (RGB).
        notes: what could not be shown, and why.
    """
    rows: List[List[Panel]] = field(default_factory=list)
    classes: List[Tuple[str, Tuple[int, int, int]]] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def make_examples(comparison: Comparison, count: int) -> Examples:
    """Lets the last checkpoint of one run of each config look at images of the validation set.

    Args:
        comparison: the runs. The validation set is that of the first distilled one, or of the first.
        count: how many images, spread evenly over the set; 0 for none.

    Returns:
        The pictures; where something cannot be built or run, a note says so instead.
    """
    found = Examples()
    shown = [row.runs[0] for role in (DISTILLED, PLAIN, ALONE, TEACHER) for row in comparison.of(role) if row.runs]
    if count < 1 or not shown:
        return found
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        _make(found, shown, comparison, count)
    except Exception as error:  # noqa: BLE001 (data sets and networks of others; the rest of the page goes without)
        found.rows.clear()
        found.notes.append(f'no example pictures: {shortened(f"{type(error).__name__}: {error}")}')
    finally:
        logger.setLevel(level)
    return found


def _make(found: Examples, shown: Sequence[Run], comparison: Comparison, count: int) -> None:
    first = shown[0]
    cfg = _prepared(first)
    loader = cfg.get('val_dataloader')
    if not isinstance(loader, dict) or 'dataset' not in loader:
        found.notes.append('no example pictures: the config has no val_dataloader')
        return
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        with building('val_dataloader.dataset'):
            dataset = DATASETS.build(copy.deepcopy(loader['dataset']))
        networks = dict(_networks(found, shown, comparison))
        if not networks:
            found.notes.append('no example pictures: no network could be built with its weights')
            return
        meta = getattr(dataset, 'metainfo', None) or {}
        painter = Painter(tuple(meta.get('classes') or ()), tuple(meta.get('palette') or ())
                          if isinstance(meta.get('palette'), (list, tuple)) else ())
        said: List[Said] = []
        for number in sorted({place * len(dataset) // count for place in range(min(count, len(dataset)))}):
            row, more = _row(dataset[number], networks, painter, _is_scaled(loader['dataset']))
            found.rows.append(row)
            said += more
    found.classes = [(painter.name(number), painter.colour(number)) for number in painter.present(said)]


def _prepared(run: Run) -> Config:
    """A run's config, whose imports have been made."""
    if not run.config.values:
        raise DistillationError('cannot be read', path='config', given=run.name, accepted='a config of plain values')
    cfg = Config(copy.deepcopy(run.config.values))
    imports = cfg.get('custom_imports')
    if isinstance(imports, dict):
        import_modules_from_strings(imports.get('imports'), allow_failed_imports=bool(imports.get('allow_failed_imports')))
    return cfg


def _networks(found: Examples, shown: Sequence[Run], comparison: Comparison) -> Iterator[Tuple[str, nn.Module]]:
    """What looks at the images, by caption: teacher, student alone, and the others."""
    roles = {id(run): row.role for row in comparison.rows for run in row.runs}
    if not any(roles[id(run)] == TEACHER for run in shown):
        yield from _teachers(found, shown[0])
    for run in sorted(shown, key=lambda run: ORDER.index(roles[id(run)])):
        role = roles[id(run)]
        several = sum(roles[id(other)] == role for other in shown) > 1 or role == PLAIN
        try:
            yield f'{role}: {run.name}' if several else role, _student(run)
        except Exception as error:  # noqa: BLE001 (a network of others)
            found.notes.append(f'{run.name} is not shown: {shortened(f"{type(error).__name__}: {error}")}')


def _student(run: Run) -> nn.Module:
    """The student of a run with the weights of its last checkpoint."""
    if run.saved is None:
        raise DistillationError('has no checkpoint', path=run.name)
    cfg = _prepared(run)
    block = student_of(cfg)
    replace_sync_bn(block)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), building('model'):
        model: nn.Module = revert_sync_batchnorm(MMENGINE_MODELS.build(block))
    model.load_state_dict(load_weights(str(run.saved.file), 'checkpoint'))
    return model.eval().to(get_device())


def _teachers(found: Examples, run: Run) -> Iterator[Tuple[str, nn.Module]]:
    """The teachers that the config of a run names, where they see images as a whole network does."""
    for name, block in run.config.teachers.items():
        caption = f'teacher {name}'.strip()
        try:
            teacher = build_teachers({name: dict(block, runtime='plain')}).by_name[name]
        except Exception as error:  # noqa: BLE001 (a network of others)
            found.notes.append(f'the {caption} is not shown: {shortened(f"{type(error).__name__}: {error}")}')
            continue
        if teacher.normalisation is None or teacher.size_multiple > 1:
            found.notes.append(f'the {caption} is not shown: it has no preprocessor of its own')
            continue
        yield caption, teacher.model.to(get_device())


def _row(item: Any, networks: Dict[str, Any], painter: Painter, scaled: bool) -> Tuple[List[Panel], List[Said]]:
    sample = item['data_samples']
    image = image_of(item, sample, _swaps(next(iter(networks.values()))))
    width, height = _scale(sample)
    truth = said_by_annotation(sample, (width, height) if scaled else (1., 1.))
    panels = [Panel('image', picture(image)), painter.panel('truth', image, truth, truth)]
    said = [truth]
    for caption, model in networks.items():
        with torch.no_grad():
            result = said_by_network(model.test_step(pseudo_collate([copy.deepcopy(item)]))[0])
        panels.append(painter.panel(caption, image, result, truth))
        said.append(result)
    return panels, said


def image_of(item: Any, sample: Any, swap: bool) -> np.ndarray:
    """The image that a pipeline gave, (H, W, 3) of uint8 in RGB, of the size that it had before the pipeline.

    Args:
        item: what the data set gives.
        sample: its data sample.
        swap: whether the preprocessor swaps channels: the image is in BGR then, as it is where it comes from a file.
    """
    image = item['inputs'].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, -1)
    meta = getattr(sample, 'metainfo', {})
    image = image[..., :3]
    if swap or meta.get('img_path'):
        image = image[..., ::-1]
    original = meta.get('ori_shape')
    if original is None:
        return np.ascontiguousarray(image)
    width, height = _scale(sample)
    inner = image[:round(original[0] * height), :round(original[1] * width)]  # what has been padded is left out
    return np.asarray(Image.fromarray(np.ascontiguousarray(inner)).resize((original[1], original[0])))


def _scale(sample: Any) -> Tuple[float, float]:
    """By how much the pipeline has enlarged an image, in width and in height."""
    meta = getattr(sample, 'metainfo', {})
    given = meta.get('scale_factor')
    if given is not None and len(given) >= 2:
        return float(given[0]), float(given[1])
    before, after = meta.get('ori_shape'), meta.get('img_shape')
    return (after[1] / before[1], after[0] / before[0]) if before and after else (1., 1.)


def _swaps(model: nn.Module) -> bool:
    return bool(getattr(getattr(model, 'data_preprocessor', None), '_channel_conversion', False))


def _is_scaled(dataset: Any) -> bool:
    """Whether the boxes of annotations are resized with the images: they are loaded before that, then."""
    found: Optional[Dict[str, Any]] = next((each for each in innermost(dataset) if isinstance(each, dict)), None)
    kinds = [str(step.get('type')) for step in (found or {}).get('pipeline') or () if isinstance(step, dict)]
    resized = next((place for place, kind in enumerate(kinds) if kind.split('.')[-1] in RESIZES), len(kinds))
    return any('LoadAnnotations' in kind for kind in kinds[:resized])
