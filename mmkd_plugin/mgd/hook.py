"""``mmkd.MatchingUpdateHook``: when and on which images the matching of MGD is found."""
import copy
import re
import time
from typing import Dict, List, Optional, Sequence, Union

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..core.distiller import Batch
from ..core.errors import DistillationError, check_arguments, check_number, unknown_name
from ..core.isolation import evaluation_mode, preserved_rng
from ..core.runner import distillation_of, unwrap
from ..registry import HOOKS
from .distiller import MatchingGuidedDistiller


@HOOKS.register_module()
class MatchingUpdateHook(Hook):
    """Finds the matching before training and again every ``interval`` (coordinate descent: matching, then weights).

    The student is in eval mode for it and gets back the mode of every module afterwards; no random number of the run is
    drawn; the training loader and its sampler are not touched. A resumed run goes on with the matching of its
    checkpoint.

    Args:
        interval: a number n: every n epochs (or iterations); a list: after these. The authors' is 1 on ImageNet, 2
            elsewhere. An interval that ends with training is not used.
        by_epoch: whether ``interval`` counts epochs. In an iteration-based loop an epoch is one pass over the training
            set.
        dataloader: config of the loader with the images. By default the training set with the evaluation transforms,
            shuffled: ``train_dataloader``'s dataset with the pipeline, batch size and workers of ``val_dataloader``.
        num_images: how many images an update uses, over all ranks, rounded up to whole batches. The authors' ImageNet
            runs use 20480.
        distillers: names of the distillers to update; by default all that are matching guided.
        seed: of the order of the images.

    Raises:
        DistillationError: for an interval or number of images that is not positive; when training starts, for an empty
            data set or a model without a matching guided distiller.
    """
    priority = 'NORMAL'  # before checkpoints are saved, so that they hold the new matching

    def __init__(self, interval: Union[int, Sequence[int]] = 1, by_epoch: bool = True, dataloader: Optional[dict] = None,
                 num_images: int = 1000, distillers: Optional[Sequence[str]] = None, seed: int = 0, **others):
        check_arguments('MatchingUpdateHook', others, MatchingUpdateHook)
        several = isinstance(interval, Sequence) and not isinstance(interval, str)
        points = list(interval) if several else [interval]
        if not points or not all(type(point) is int and point > 0 for point in points):
            raise DistillationError(f'MatchingUpdateHook.interval: {interval!r}. Accepted: a whole number > 0, or a list of '
                                    'them.')
        check_number('MatchingUpdateHook.num_images', num_images, above=0, whole=True)
        if distillers is not None and (isinstance(distillers, str) or not distillers):
            raise DistillationError(f'MatchingUpdateHook.distillers: {distillers!r}. Accepted: a list of names, or None for '
                                    'all.')
        if dataloader is not None and not isinstance(dataloader, dict):
            raise DistillationError(f'MatchingUpdateHook.dataloader: {dataloader!r}. Accepted: a dataloader config, or '
                                    'None.')
        self.points = set(points) if several else None
        self.interval = interval
        self.by_epoch, self.num_images, self.seed = by_epoch, num_images, seed
        self.dataloader_cfg = dataloader
        self.distillers = distillers
        self._built: Optional[DataLoader] = None  # the data set is read once; workers do not outlive an update

    def due(self, done: int) -> bool:
        """Whether an update is due after ``done`` epochs (iterations) have been finished."""
        return done in self.points if self.points is not None else done % self.interval == 0

    def before_train(self, runner: Runner) -> None:
        matched = [all(stage.matched for stage in distiller.stages) for distiller in self._chosen(runner).values()]
        if not all(matched):
            self.update(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and not isinstance(runner.train_loop, IterBasedTrainLoop):
            done = runner.epoch + 1
            if done < runner.max_epochs and self.due(done):
                self.update(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        done = runner.iter + 1
        if done >= runner.max_iters:
            return
        if not self.by_epoch:
            if self.due(done):
                self.update(runner)
        elif isinstance(runner.train_loop, IterBasedTrainLoop):
            epoch = iterations_per_epoch(runner)
            if done % epoch == 0 and self.due(done // epoch):
                self.update(runner)

    def update(self, runner: Runner) -> Dict[str, float]:
        """One matching update. Returns the mean cost of the matched pairs of channels, by ``<distiller>.<stage>``."""
        model = unwrap(runner.model)
        chosen = {name: distiller for name, distiller in self._chosen(runner).items()
                  if distiller.end is None or runner.iter < distiller.end}
        if not chosen:
            return {}
        started = time.perf_counter()
        # Outside a context the loader would draw its workers' base seed from the run's generator.
        with preserved_rng(), evaluation_mode(model):
            statistics = {name: distiller.start_update() for name, distiller in chosen.items()}
            images = self._accumulate(runner, model, chosen, statistics)
        seen = time.perf_counter()
        costs = {}
        for name, distiller in chosen.items():
            for stage, cost in distiller.finish_update(statistics[name]).items():
                costs[f'{name}.{stage}'] = cost
        solved = time.perf_counter()
        print_log(f'matching update: {images} images on this rank in {seen - started:.1f} s, solved in '
                  f'{solved - seen:.1f} s; mean cost of matched channels (0 to 4): '
                  + ', '.join(f'{name} {cost:.3f}' for name, cost in costs.items()), logger=runner.logger)
        return costs

    def _accumulate(self, runner, model, chosen, statistics) -> int:
        wanted = -(-self.num_images // get_world_size())
        images = 0
        for data in self._loader(runner):
            inputs, data_samples = model.forward_arguments(model.data_preprocessor(data, False))
            student, teacher = model.distillation.features(model, inputs, data_samples, list(chosen))
            batch = Batch(inputs, data_samples, runner.iter)
            for name, distiller in chosen.items():
                distiller.accumulate(statistics[name], student, teacher, batch)
            images += len(inputs)
            if images >= wanted:
                break
        return images

    def _chosen(self, runner: Runner) -> Dict[str, MatchingGuidedDistiller]:
        matching = {name: distiller for name, distiller in distillation_of(runner).distillers.items()
                    if isinstance(distiller, MatchingGuidedDistiller)}
        if not matching:
            raise DistillationError("MatchingUpdateHook: the model has no distiller of type 'mmkd.MatchingGuidedDistiller'")
        for name in self.distillers or ():
            if name not in matching:
                raise unknown_name('MatchingUpdateHook.distillers', name, matching)
        return {name: matching[name] for name in self.distillers or matching}

    def _loader(self, runner: Runner) -> DataLoader:
        if self._built is None:
            cfg = self.dataloader_cfg or evaluation_view_of_training_data(runner.cfg)
            self._built = Runner.build_dataloader(copy.deepcopy(cfg), seed=self.seed)
        if len(self._built.dataset) == 0:
            raise DistillationError('MatchingUpdateHook.dataloader: the data set is empty')
        return self._built


def iterations_per_epoch(runner: Runner) -> int:
    """Iterations for one pass over the training set, over all ranks."""
    loader = runner.train_dataloader
    batch_size = loader.batch_size or loader.batch_sampler.batch_size  # None where a batch sampler was given
    return max(1, len(loader.dataset) // (batch_size * get_world_size()))


def evaluation_view_of_training_data(cfg: dict) -> dict:
    """Loader config: the training images with evaluation transforms, shuffled.

    Raises:
        DistillationError: if the config has no train or val loader to take them from.
    """
    train, val = cfg.get('train_dataloader'), cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not isinstance(train, dict) or not isinstance(val, dict):
        raise DistillationError('MatchingUpdateHook.dataloader: the config has no train_dataloader and val_dataloader to '
                                'derive one from. Accepted: a dataloader config.')
    pipelines = _pipelines(val['dataset'])
    if not pipelines:
        raise DistillationError("MatchingUpdateHook.dataloader: val_dataloader's dataset has no pipeline. Accepted: a "
                                'dataloader config.')
    keep = {key: value for key, value in val.items() if key not in ('dataset', 'sampler', 'batch_sampler', 'drop_last')}
    # Workers that outlive an update would hold memory for nothing.
    keep.update(dataset=_with_pipeline(train['dataset'], _annotations_first(pipelines[0])), persistent_workers=False,
                sampler=dict(type='DefaultSampler', shuffle=True))
    return keep


def _pipelines(dataset: dict) -> List[list]:
    if 'pipeline' in dataset:
        return [dataset['pipeline']]
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets', [])
    return [pipeline for one in inner for pipeline in _pipelines(one)]


def _annotations_first(pipeline: list) -> list:
    """Ground truth is loaded directly after the image, so that every transform takes it along.

    Test pipelines load it after resizing, for metrics; its boxes and labels would not be in the image's coordinates.
    """
    def loads(transform: dict, what: str) -> bool:
        return bool(re.search(rf'(^|\.)Load\w*{what}', str(transform.get('type', ''))))

    images = [number for number, transform in enumerate(pipeline) if loads(transform, 'Image')]
    if not images:
        return pipeline
    rest = pipeline[images[0] + 1:]
    annotations = [transform for transform in rest if loads(transform, 'Annotations')]
    return [*pipeline[:images[0] + 1], *annotations, *(transform for transform in rest if transform not in annotations)]


def _with_pipeline(dataset: dict, pipeline: list) -> dict:
    dataset = copy.deepcopy(dict(dataset))
    if str(dataset.get('type', '')).endswith('MultiImageMixDataset'):  # its pipeline mixes images
        return _with_pipeline(dataset['dataset'], pipeline)
    if 'dataset' in dataset:
        dataset['dataset'] = _with_pipeline(dataset['dataset'], pipeline)
    elif 'datasets' in dataset:
        dataset['datasets'] = [_with_pipeline(one, pipeline) for one in dataset['datasets']]
    else:
        dataset['pipeline'] = copy.deepcopy(pipeline)
    return dataset
