"""``mmkd.MatchingUpdateHook``: when and on which images the matching of MGD is found."""
import copy
import logging
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Union

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..distiller import Batch
from ..model import DistilledMixin, distillation_of, distilled
from ..registry import HOOKS
from ..utils import options
from ..utils.dataset_configs import LOADER
from ..utils.errors import DistillationError, building, under, unknown_name
from ..utils.isolation import evaluation_mode, preserved_rng
from ..utils.options import SEED, Block, Either, Flag, Kind, ListOf, Number, Text, option
from .distiller import MatchingGuidedDistiller, StageStatistics
from .update_data import evaluation_view_of_training_data

KEY = 'MatchingUpdateHook'
POINT = Number(above=0, whole=True)


AUTO = 'auto'
UPDATES = 5
"""Parts that a run has between its matchings with ``interval='auto'``."""


@dataclass(frozen=True)
class Interval(Kind):
    """A whole number of epochs or iterations, or a list of points."""
    accepted = 'a whole number > 0, or a list of them'

    def fits(self, value: Any) -> bool:
        points = value if isinstance(value, (list, tuple)) else [value]
        return bool(points) and all(map(POINT.fits, points))

    def read(self, value: Any) -> Any:
        read = super().read(value)
        return list(map(POINT.read, read)) if isinstance(read, (list, tuple)) else POINT.read(read)


@HOOKS.register_module()
class MatchingUpdateHook(Hook):
    """Finds the matching before training and again every ``interval`` (coordinate descent: matching, then weights).

    The student is in eval mode for it and gets back the mode of every module afterwards; no random number of the run is
    drawn; the training loader and its sampler are not touched. A resumed run goes on with the matching of its
    checkpoint.

    Args:
        given: see ``Options``.

    Raises:
        DistillationError: for options that do not fit; when training starts, for an empty data set or a model without a
            matching guided distiller.
    """
    priority = 'NORMAL'  # before checkpoints are saved, so that they hold the new matching

    @dataclass(frozen=True, kw_only=True)
    class Options(options.Options):
        """The options of the hook."""
        interval: Union[int, str, List[int]] = option(
            Either(Interval(), (AUTO,)), 1, "a number n: every n epochs (or iterations); a list: after these; 'auto': after "
            "each fifth of the run, with no more images than are trained on in a fifth (rounded up to whole batches). The "
            "authors' is 1 on ImageNet, 2 elsewhere. An interval that ends with training is not used")
        by_epoch: bool = option(Flag(), True, 'whether `interval` counts epochs; not looked at with "auto". In an iteration-'
                                'based loop an epoch is one pass over the training set')
        dataloader: Optional[Dict[str, Any]] = option(
            Either(Block("a loader's config"), (None,)), None, 'config of the loader with the images. By default the '
            "training set with the evaluation transforms, shuffled: `train_dataloader`'s data set with the pipeline, batch "
            'size and workers of `val_dataloader`')
        num_images: int = option(Number(above=0, whole=True), 1000, 'how many images an update uses, over all ranks, '
                                 "rounded up to whole batches. The authors' ImageNet runs use 20480")
        distillers: Optional[List[str]] = option(
            Either(ListOf(Text('a name'), 'names of distillers', different=True), (None,)), None,
            'names of the distillers to update; by default all that are matching guided')
        seed: int = option(SEED, 0, 'of the order of the images')

    def __init__(self, **given: Any):
        with under(KEY):
            self.options = self.Options.read(given)
        # As given; with 'auto' it follows from the length of the run.
        self._interval: Union[int, List[int]] = 1 if isinstance(self.options.interval, str) else self.options.interval
        self._by_epoch, self._num_images = self.options.by_epoch, self.options.num_images
        self._built: Optional[DataLoader[Any]] = None  # the data set is read once; workers do not outlive an update

    @staticmethod
    def with_images(hook: Dict[str, Any], cfg: Mapping[str, Any]) -> Dict[str, Any]:
        """The config of such a hook, for a run without a loader for validation: it says which images it looks at.

        Args:
            hook: its config.
            cfg: that of a run that has one; where it has none, the hook's stays as it is.
        """
        if hook.get('dataloader') is not None or not (cfg.get('val_dataloader') or cfg.get('test_dataloader')):
            return hook
        return dict(hook, dataloader=evaluation_view_of_training_data(cfg))

    def serves(self, name: str) -> bool:
        """Whether it updates the distiller of that name."""
        return self.options.distillers is None or name in self.options.distillers

    def due(self, done: int) -> bool:
        """Whether an update is due after ``done`` epochs (iterations) have been finished."""
        return done in self._interval if isinstance(self._interval, list) else done % self._interval == 0

    def look_at(self, loader: 'DataLoader[Any]', runner: Runner) -> None:
        """Lets updates look at one batch of this loader; one of their own is made, so that unreadable data are found."""
        with preserved_rng():
            if next(iter(self._loader(runner)), None) is None:
                raise _no_batch()
        self._built, self._num_images = loader, 1

    def before_run(self, runner: Runner) -> None:
        """Looks at the training that is about to begin, before a checkpoint is loaded."""
        if isinstance(runner._train_loop, BaseLoop) and distilled(runner).distillation is not None:
            self._check_alone(runner)
            if self.options.interval == AUTO:
                self._find_interval(runner)
            self._warn_of_what_never_comes(runner)

    def _check_alone(self, runner: Runner) -> None:
        """Raises :class:`DistillationError` where another hook updates one of the distillers too."""
        for hook in runner.hooks:
            twice = set(self._chosen(runner)) & set(hook._chosen(runner)) if isinstance(hook, MatchingUpdateHook) else ()
            if hook is not self and twice:
                raise DistillationError(f'two of them update {sorted(twice)[0]!r}', path=f'{KEY}.distillers',
                                        accepted='other distillers for each hook')

    def _find_interval(self, runner: Runner) -> None:
        """Five equal parts: in epochs where the run has so many, in iterations otherwise."""
        self._by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop) and runner.max_epochs >= UPDATES
        length, unit = (runner.max_epochs, 'epochs') if self._by_epoch else (runner.max_iters, 'iterations')
        points = [round(length * part / UPDATES) for part in range(1, UPDATES)]
        self._interval = sorted({point for point in points if 0 < point < length})
        shown = ', '.join(map(str, self._interval)) or 'nothing else'
        # An update is not to cost more than the training up to the next.
        self._num_images = min(self._num_images, max(1, runner.max_iters // UPDATES) * images_per_iteration(runner))
        print_log(f'{KEY}.interval: a matching at the start and after {shown} of {length} {unit}, with {self._num_images} '
                  'images each, rounded up to whole batches of its loader', logger=runner.logger)

    def _warn_of_what_never_comes(self, runner: Runner) -> None:
        interval = self._interval
        length, unit = (runner.max_epochs, 'epochs') if self._by_epoch else (runner.max_iters, 'iterations')
        if self._by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            length = runner.max_iters // iterations_per_epoch(runner)
        late = [point for point in (interval if isinstance(interval, list) else [interval]) if point > max(1, length)]
        if late:
            print_log(f'{KEY}.interval: {late} never comes in a run of {length} {unit}: there the matching stays as it is',
                      runner.logger, level=logging.WARNING)

    def before_train(self, runner: Runner) -> None:
        matched = [all(stage.matched for stage in distiller.matched_stages()) for distiller in self._chosen(runner).values()]
        if not all(matched):
            self.update(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self._by_epoch and not isinstance(runner.train_loop, IterBasedTrainLoop):
            done = runner.epoch + 1
            if done < runner.max_epochs and self.due(done):
                self.update(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        done = runner.iter + 1
        if done >= runner.max_iters:
            return
        if not self._by_epoch:
            if self.due(done):
                self.update(runner, done)
        elif isinstance(runner.train_loop, IterBasedTrainLoop):
            epoch = iterations_per_epoch(runner)
            if done % epoch == 0 and self.due(done // epoch):
                self.update(runner, done)

    def update(self, runner: Runner, done: Optional[int] = None) -> Dict[str, float]:
        """One matching update.

        Args:
            runner: the runner of the training.
            done: how many iterations have been finished, for the log; None: as many as the runner says.

        Returns:
            The mean cost of the matched pairs of channels, by ``<distiller>.<stage>``.
        """
        model = distilled(runner)
        chosen = {name: distiller for name, distiller in self._chosen(runner).items()
                  if distiller.options.end is None or runner.iter < distiller.options.end}
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
        print_log(f'matching update after {runner.iter if done is None else done} iterations: {images} images on this rank '
                  f'in {seen - started:.1f} s, solved in {solved - seen:.1f} s; mean cost of matched channels (0 to 4): '
                  + ', '.join(f'{name} {cost:.3f}' for name, cost in costs.items()), logger=runner.logger)
        return costs

    def _accumulate(self, runner: Runner, model: DistilledMixin, chosen: Dict[str, MatchingGuidedDistiller],
                    statistics: Dict[str, List[StageStatistics]]) -> int:
        wanted = -(-self._num_images // get_world_size())
        images = 0
        for data in self._loader(runner):
            batch = Batch(*model.forward_arguments(model.data_preprocessor(data, False)), runner.iter)
            student, teacher = distillation_of(runner).features(model, batch, list(chosen))
            for name, distiller in chosen.items():
                distiller.accumulate(statistics[name], student, teacher, batch)
            images += len(batch.inputs)
            if images >= wanted:
                break
        if not images:
            raise _no_batch()
        return images

    def _chosen(self, runner: Runner) -> Dict[str, MatchingGuidedDistiller]:
        matching = {name: distiller for name, distiller in distillation_of(runner).distillers.items()
                    if isinstance(distiller, MatchingGuidedDistiller)}
        if not matching:
            raise DistillationError("finds no distiller of type 'mmkd.MatchingGuidedDistiller' in the model", path=KEY)
        for name in self.options.distillers or ():
            if name not in matching:
                raise unknown_name(f'{KEY}.distillers', name, matching)
        return {name: matching[name] for name in self.options.distillers or matching}

    def _loader(self, runner: Runner) -> 'DataLoader[Any]':
        if self._built is None:
            with under(KEY):
                own = self.options.dataloader
                cfg = evaluation_view_of_training_data(runner.cfg) if own is None else own
            with building(f'{KEY}.dataloader', LOADER):
                self._built = Runner.build_dataloader(copy.deepcopy(cfg), seed=self.options.seed)
                images: Any = self._built.dataset  # torch's type has no length: not every data set has one, those of mm do
                if len(images) == 0:
                    raise DistillationError('the data set is empty', path=f'{KEY}.dataloader', accepted='one with images')
                iter(self._built.sampler)  # it may be anything
        return self._built


def _no_batch() -> DistillationError:
    return DistillationError('has no whole batch: the matching update has seen no image', path=f'{KEY}.dataloader',
                             accepted='a batch_size up to the number of its images (on each rank), or drop_last=False')


def iterations_per_epoch(runner: Runner) -> int:
    """Iterations for one pass over the training set, over all ranks."""
    batches: int = len(runner.train_dataloader.dataset) // images_per_iteration(runner)
    return max(1, batches)


def images_per_iteration(runner: Runner) -> int:
    """Images of a training batch, over all ranks."""
    loader = runner.train_dataloader
    batch_size = loader.batch_size or loader.batch_sampler.batch_size  # None where a batch sampler was given
    return int(batch_size) * int(get_world_size())
