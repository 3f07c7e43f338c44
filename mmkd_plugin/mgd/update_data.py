"""The images a matching update looks at, where a config names none: the training images, as validation would see them."""
import copy
import re
from typing import Any, Dict, List, Mapping

from ..utils.dataset_configs import DatasetConfig, innermost, is_innermost, rebuilt
from ..utils.errors import DistillationError

Pipeline = List[Dict[str, Any]]


def evaluation_view_of_training_data(cfg: Mapping[str, Any]) -> Dict[str, Any]:
    """Loader config: the training images with evaluation transforms, shuffled.

    Raises:
        DistillationError: if the config has no train or val loader to take them from.
    """
    train, val = cfg.get('train_dataloader'), cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not isinstance(train, dict) or not isinstance(val, dict):
        raise DistillationError('is missing: the config has no train_dataloader and val_dataloader to derive one from',
                                path='dataloader', accepted="a loader's config")
    pipelines = [one['pipeline'] for one in innermost(val['dataset'], lambda cfg: is_innermost(cfg) or 'pipeline' in cfg)
                 if 'pipeline' in one]
    if not pipelines:
        raise DistillationError("is missing: val_dataloader's data set has no pipeline", path='dataloader',
                                accepted="a loader's config")
    keep = {key: value for key, value in val.items() if key not in ('dataset', 'sampler', 'batch_sampler', 'drop_last')}
    # Workers that outlive an update would hold memory for nothing.
    keep.update(dataset=_with_pipeline(train['dataset'], _annotations_first(pipelines[0])), persistent_workers=False,
                sampler=dict(type='DefaultSampler', shuffle=True))
    return keep


def _annotations_first(pipeline: Pipeline) -> Pipeline:
    """Ground truth is loaded directly after the image, so that every transform takes it along.

    Test pipelines load it after resizing, for metrics; its boxes and labels would not be in the image's coordinates.
    """
    def loads(transform: Dict[str, Any], what: str) -> bool:
        return bool(re.search(rf'(^|\.)Load\w*{what}', str(transform.get('type', ''))))

    images = [number for number, transform in enumerate(pipeline) if loads(transform, 'Image')]
    if not images:
        return pipeline
    rest = pipeline[images[0] + 1:]
    annotations = [transform for transform in rest if loads(transform, 'Annotations')]
    return [*pipeline[:images[0] + 1], *annotations, *(transform for transform in rest if transform not in annotations)]


def _with_pipeline(dataset: DatasetConfig, pipeline: Pipeline) -> DatasetConfig:
    def change(cfg: DatasetConfig) -> DatasetConfig:
        if _changes_images(cfg):  # what it wraps does not
            return _with_pipeline(cfg['dataset'], pipeline)
        return {**cfg, 'pipeline': copy.deepcopy(pipeline)}

    found: DatasetConfig = rebuilt(copy.deepcopy(dict(dataset)), change,
                                   lambda cfg: is_innermost(cfg) or _changes_images(cfg))
    return found


def _changes_images(cfg: DatasetConfig) -> bool:
    return str(cfg.get('type', '')).endswith(('MultiImageMixDataset', 'ImagesOnDevice'))
