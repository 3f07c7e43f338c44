"""The runs that are killed: every method, and every circumstance in which resuming has more to put back than weights."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
from dfa_runs import TWO_STAGES, hook, searching
from distpro_runs import distpro, search_hook
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS
from zoo import classifier, dfa, distilled, loader, mgd, pspnet, retinanet, run_cfg, update_hook

from .moments import AFTER, BEFORE, INSIDE, OPEN, Moment

CHECKPOINT = (
    Moment('half of a checkpoint is written', OPEN, INSIDE, '.pth', calls=2),
    Moment('a checkpoint is whole and not yet under its name', 'os:replace', BEFORE, '.pth', calls=2),
    Moment('a checkpoint has its name, last_checkpoint names the one before', 'os:replace', AFTER, '.pth', calls=2),
    Moment('last_checkpoint is open and not yet written', OPEN, AFTER, 'last_checkpoint', calls=2))
MOVED = Moment('the weights have moved, nothing is saved', 'mmengine.optim:OptimWrapper.step', AFTER, calls=4)
UPDATE = (Moment('in a matching update', 'mmkd_plugin.mgd.distiller:MatchingGuidedDistiller.accumulate', AFTER, calls=3),
          Moment('a matching is new and not saved', 'mmkd_plugin.mgd.distiller:MatchingGuidedDistiller.finish_update', AFTER,
                 calls=2))
REMOVAL = (Moment('the old checkpoint is about to be removed', 'os:remove', BEFORE, '.pth'),
           Moment('the old checkpoint has been removed', 'os:remove', AFTER, '.pth'))
VALIDATION = (Moment('in validation', 'mmengine.runner:ValLoop.run_iter', AFTER, calls=3),)
LOADER = (Moment('in a loader worker, which dies', 'zoo:ToyDataset.__getitem__', BEFORE, calls=3, in_worker=True),)
LOGITS = dict(type='mmkd.LogitsDistiller', pairs=['head.fc'])
FEATURES = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'])


def artefact(name: str) -> Tuple[Moment, ...]:
    """The moments in which a search's file is written."""
    return (Moment(f'half of {name} is written', OPEN, INSIDE, name.split('.')[0]),
            Moment(f'{name} is whole and not yet under its name', 'os:replace', BEFORE, name.split('.')[0]))


@dataclass(frozen=True)
class Case:
    """A run to be killed.

    Attributes:
        name, about: what it is called, and what is special about it.
        config: makes its config, of the folder for the run and the folder of what it needs.
        moments: named moments to kill it in.
        ranks: how many processes it has.
        needs: makes the config of a run that comes before and is left alone, of its folder.
        planted: whether its runs cannot be equal: the suite has to find that out. It is run where it is named only.
    """
    name: str
    about: str
    config: Callable[[Path, Path], Config]
    moments: Tuple[Moment, ...]
    ranks: int = 1
    needs: Optional[Callable[[Path], Config]] = None
    planted: bool = False


CASES: Dict[str, Case] = {}


def case(about: str, *moments: Sequence[Moment], step: str = 'torch.optim.sgd:sgd', **options: Any) -> Callable[..., Any]:
    """Makes a case of a function that makes a config; checkpoints and the optimiser's step are moments of every case."""
    in_step = Moment("in the optimiser's step", step, BEFORE, calls=4)

    def register(config: Callable[[Path, Path], Config]) -> Callable[[Path, Path], Config]:
        name = config.__name__.replace('_', '-')
        named = tuple(moment for group in (CHECKPOINT, *moments, (in_step, MOVED)) for moment in group)
        CASES[name] = Case(name, about, config, named, **options)
        return config
    return register


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    """Counts images: a validation needs some metric."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.extend(data_samples)

    def compute_metrics(self, results: Any) -> Dict[str, int]:
        return dict(images=len(results))


@HOOKS.register_module(force=True)
class ForgetfulHook(Hook):
    """Moves the weights by how many iterations this process has done, which no checkpoint knows."""

    def __init__(self) -> None:
        self.done = 0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.done += 1
        with torch.no_grad():
            next(runner.model.parameters()).add_(1e-6 * self.done)


def made(model: Any, folder: Path, *, epochs: int = 3, iterations: int = 0, length: int = 6, workers: int = 0,
         persistent: bool = False, keep: int = -1, hooks: Sequence[Any] = (), **others: Any) -> Config:
    """The config of a short run with random transforms: of ``iterations`` if given, of ``epochs`` otherwise."""
    cfg = run_cfg(model, folder, epochs, hooks, length, **others)
    cfg.experiment_name, cfg.log_level = 'killed', 'INFO'
    cfg.train_dataloader.dataset.noise = True
    cfg.train_dataloader.update(num_workers=workers, persistent_workers=persistent)
    cfg.default_hooks.checkpoint.max_keep_ckpts = keep
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=.1, by_epoch=False, begin=0, end=4)]
    if iterations:
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
        cfg.train_dataloader.sampler = dict(type='InfiniteSampler', _scope_='mmengine')
        cfg.default_hooks.checkpoint.by_epoch = False
    return cfg


def matched(scope: str = 'mmpretrain', by_epoch: bool = True, interval: int = 1) -> Any:
    """The hook of matching updates, on images with random transforms."""
    images = loader(scope, 4)
    images['dataset'].update(noise=True)
    return update_hook(scope, dataloader=images, by_epoch=by_epoch, interval=interval)


def validated(cfg: Config, scope: str, interval: int = 1) -> Config:
    """The run with a validation every so many epochs or iterations."""
    images = loader(scope, 4)
    images['dataset'].update(noise=True)
    cfg.update(val_dataloader=images, val_cfg=dict(type='ValLoop'), val_evaluator=dict(type='ToyMetric', _scope_='mmengine'))
    cfg.train_cfg.val_interval = interval
    return cfg


def ranked(cfg: Config, **randomness: Any) -> Config:
    """The run on two processes, of which each sees half of a batch."""
    cfg.update(launcher='pytorch', model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False))
    cfg.train_dataloader.batch_size = 2
    cfg.randomness.update(randomness)
    return cfg


def matching(student: Any, **others: Any) -> Any:
    """A student with MGD, whose reduction is drawn at random, and with features compared at a second place."""
    return distilled(student, mgd=mgd(reducer='random_drop'), l2=FEATURES, **others)


@case('MGD with updates, counted in epochs', UPDATE)
def mgd_epochs(folder: Path, inputs: Path) -> Config:
    return made(matching(classifier()), folder, hooks=[matched()])


@case('MGD with updates, counted in iterations; dropout', UPDATE)
def mgd_iterations(folder: Path, inputs: Path) -> Config:
    return made(matching(pspnet()), folder, iterations=8, hooks=[matched('mmseg', False, 2)])


@case('MGD on a detector', UPDATE)
def mgd_detection(folder: Path, inputs: Path) -> Config:
    return made(matching(retinanet()), folder, epochs=3, length=4, hooks=[matched('mmdet')])


@case('MGD, two loader workers, epochs', UPDATE, LOADER)
def mgd_workers(folder: Path, inputs: Path) -> Config:
    return made(matching(classifier()), folder, workers=2, hooks=[matched()])


@case('MGD, two persistent loader workers, epochs', UPDATE, LOADER)
def mgd_persistent_workers(folder: Path, inputs: Path) -> Config:
    return made(matching(classifier()), folder, epochs=4, workers=2, persistent=True, hooks=[matched()])


@case('logits, two loader workers, iterations', LOADER)
def logits_iterations_workers(folder: Path, inputs: Path) -> Config:
    return made(distilled(classifier(), logits=LOGITS), folder, iterations=8, workers=2)


@case('logits and features, two persistent loader workers, iterations', LOADER)
def logits_iterations_persistent_workers(folder: Path, inputs: Path) -> Config:
    model = distilled(classifier(), logits=LOGITS, l2=FEATURES)
    return made(model, folder, iterations=8, workers=2, persistent=True)


@case('MGD and a moving average of the weights, epochs', UPDATE)
def average_epochs(folder: Path, inputs: Path) -> Config:
    return made(matching(classifier()), folder, hooks=[matched(), dict(type='EMAHook', momentum=.1)])


@case('features and a moving average, iterations, validation with it; dropout', VALIDATION)
def average_iterations(folder: Path, inputs: Path) -> Config:
    cfg = made(distilled(pspnet(), l2=FEATURES), folder, iterations=8, hooks=[dict(type='EMAHook', momentum=.1)])
    return validated(cfg, 'mmseg', 2)


@case('gradients of two batches added up, a checkpoint between them; dropout')
def accumulation_iterations(folder: Path, inputs: Path) -> Config:
    cfg = made(distilled(pspnet(), l2=FEATURES), folder, iterations=8)
    cfg.optim_wrapper.accumulative_counts = 2
    return cfg


@case('MGD, gradients of two batches added up, three batches an epoch', UPDATE)
def accumulation_epochs(folder: Path, inputs: Path) -> Config:
    cfg = made(matching(classifier()), folder, hooks=[matched()])
    cfg.optim_wrapper.accumulative_counts = 2
    return cfg


@case('MGD, validation between epochs; dropout', UPDATE, VALIDATION)
def validation_epochs(folder: Path, inputs: Path) -> Config:
    return validated(made(matching(pspnet()), folder, length=4, hooks=[matched('mmseg')]), 'mmseg')


@case('logits, validation every two iterations, persistent workers; dropout', VALIDATION, LOADER)
def validation_iterations(folder: Path, inputs: Path) -> Config:
    model = distilled(pspnet(), logits=dict(LOGITS, pairs=['decode_head.conv_seg']))
    return validated(made(model, folder, iterations=8, workers=2, persistent=True), 'mmseg', 2)


@case('the best checkpoint is kept beside, by a validation between epochs; MGD', UPDATE, VALIDATION)
def best_epochs(folder: Path, inputs: Path) -> Config:
    cfg = validated(made(matching(pspnet()), folder, length=4, keep=1, hooks=[matched('mmseg')]), 'mmseg')
    cfg.default_hooks.checkpoint.update(save_best='images', rule='greater')
    return cfg


@case('features and logits with a scale that is found; Adam', step='torch.optim.adam:adam')
def automatic_scale(folder: Path, inputs: Path) -> Config:
    model = distilled(classifier(), l2=dict(FEATURES, loss_scale='auto', calibration_iters=6),
                      logits=dict(LOGITS, loss_scale='auto'))
    cfg = made(model, folder, iterations=9)
    cfg.optim_wrapper.optimizer = dict(type='AdamW', lr=1e-3)
    return cfg


@case('one checkpoint is kept, epochs; MGD', REMOVAL, UPDATE)
def keep_one_epochs(folder: Path, inputs: Path) -> Config:
    return made(matching(classifier()), folder, epochs=4, length=4, keep=1, hooks=[matched()])


@case('one checkpoint is kept, iterations; features', REMOVAL)
def keep_one_iterations(folder: Path, inputs: Path) -> Config:
    return made(distilled(classifier(), l2=FEATURES), folder, iterations=8, keep=1)


def pathways(folder: Path, **options: Any) -> Config:
    """A search of DistPro."""
    images = loader('mmpretrain', 8)
    images['dataset'].update(noise=True)
    return made(distilled(classifier(), distpro=distpro()), folder, hooks=[search_hook('mmpretrain', dataloader=images)],
                **options)


META = (Moment('the importance has moved, nothing is saved', 'mmkd_plugin.distpro.search:ProcessSearch.step', AFTER,
               calls=4),)
BETA = (Moment('beta has moved, nothing is saved', 'mmkd_plugin.dfa.search:AggregationSearch.step', AFTER, calls=3),)


@case('search of DistPro, iterations', META, artefact('process.json'))
def distpro_search_iterations(folder: Path, inputs: Path) -> Config:
    return pathways(folder, iterations=8)


@case('search of DistPro, epochs, persistent workers', META, artefact('process.json'), LOADER)
def distpro_search_epochs(folder: Path, inputs: Path) -> Config:
    return pathways(folder, workers=2, persistent=True)


@case('DistPro replays what a search has found', needs=lambda inputs: pathways(inputs, iterations=4))
def distpro_replay(folder: Path, inputs: Path) -> Config:
    model = distilled(classifier(), distpro=distpro('process', process=str(inputs / 'process.json')))
    return made(model, folder, iterations=8)


def stages(folder: Path, by_epoch: bool, how: Any = None, **options: Any) -> Config:
    """A search of DFA."""
    images = loader('mmpretrain', 8)
    images['dataset'].update(noise=True)
    return made(searching(classifier, TWO_STAGES, **options), folder, hooks=[{**hook(**(how or {})), 'dataloader': images}],
                **(dict(epochs=3, length=4) if by_epoch else dict(iterations=8)))


@case('search of DFA, iterations, second order', BETA, artefact('aggregation.json'))
def dfa_search_iterations(folder: Path, inputs: Path) -> Config:
    return stages(folder, False, dict(unrolled=True))


@case('search of DFA, epochs, balanced by itself', BETA, artefact('aggregation.json'))
def dfa_search_epochs(folder: Path, inputs: Path) -> Config:
    return stages(folder, True, gamma_st='auto')


@case('DFA distils what a search has found, epochs', needs=lambda inputs: stages(inputs, False))
def dfa_distillation(folder: Path, inputs: Path) -> Config:
    model = distilled(classifier(), classifier(16, depth=34),
                      dfa=dfa('distill', TWO_STAGES, aggregation=str(inputs / 'aggregation.json')))
    return made(model, folder)


@case('two processes: MGD, epochs, each with random numbers of its own', UPDATE, ranks=2,
      needs=lambda inputs: made(classifier(16), inputs, epochs=1))
def ranks_epochs(folder: Path, inputs: Path) -> Config:
    # The weights of a teacher without a checkpoint would be other ones in each process, too.
    model = matching(classifier(), teacher_options=dict(checkpoint=str(inputs / 'epoch_1.pth')))
    return ranked(made(model, folder, length=8, hooks=[matched()]), diff_rank_seed=True)


@case('two processes: features, iterations; dropout', ranks=2)
def ranks_iterations(folder: Path, inputs: Path) -> Config:
    return ranked(made(distilled(pspnet(), l2=FEATURES), folder, iterations=6))


@case('a run that forgets something when it is killed', planted=True)
def forgetful(folder: Path, inputs: Path) -> Config:
    return made(distilled(classifier(), l2=FEATURES), folder, hooks=[dict(type='ForgetfulHook')])
