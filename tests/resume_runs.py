"""Whole and interrupted runs that have to be the same bit for bit."""
import random

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, METRICS
from zoo import Stop, ToyDataset, classifier, distilled, loader, run, run_cfg

from mmkd_plugin.utils.isolation import pack_rng_state

MODEL = distilled(classifier(4), classifier(4), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2']))
"""A student whose batch norms have statistics; see ``Dropping`` for what draws random numbers."""


@DATASETS.register_module(force=True)
class DrawingDataset(ToyDataset):
    """Its transforms draw from Python's, numpy's and torch's generators, with memory (of a normal distribution)."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        draws = [random.randrange(64), int(abs(random.gauss(0, 8))), int(np.random.randint(64)),  # noqa: NPY002
                 int(abs(np.random.normal(0, 8))), int(torch.randint(64, ()))]  # noqa: NPY002
        item['inputs'] = item['inputs'] ^ np.uint8(sum(draws) % 128)
        return item


@METRICS.register_module(force=True)
class FirstLabel(BaseMetric):
    """Rises and falls with the predictions."""

    def process(self, data_batch, data_samples):
        self.results += [float(sample['pred_score'][0]) for sample in data_samples]

    def compute_metrics(self, results):
        return dict(score=float(np.mean(results)))


class Dropping(Hook):
    """Draws a random number for every iteration, as dropout on a CPU does, and puts it into the weights."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, 'module', runner.model)
        with torch.no_grad():
            model.head.fc.bias.add_(torch.rand(()) * 1e-3)

    def after_train(self, runner):
        runner.generators_at_the_end = pack_rng_state()


def drawing_loader(length=8, workers=0, **options):
    """A loader with random transforms in this process, or in workers that live on."""
    cfg = loader('mmpretrain', length)
    cfg['dataset']['type'] = 'DrawingDataset'
    cfg.update(num_workers=workers, **options)
    if workers:
        cfg.setdefault('persistent_workers', True)
    return cfg


def epochs_cfg(folder, epochs=3, length=8, workers=0, loaders=None, validates=False, model=None, **options):
    """An epoch-based run; with ``validates``, after each epoch, keeping the best."""
    cfg = run_cfg(model or MODEL, folder, epochs, length=length, **options)
    cfg.train_dataloader = drawing_loader(length, workers, **(loaders or {}))
    if validates:
        cfg.val_cfg, cfg.val_evaluator = dict(), dict(type='FirstLabel')
        cfg.val_dataloader = drawing_loader(4, workers, **(loaders or {}))
        cfg.default_hooks.checkpoint.update(save_best='score', rule='greater')
    return cfg


def iterations_cfg(folder, iterations=6, length=6, workers=0, interval=1, validates=False, model=None, **options):
    """An iteration-based run, a checkpoint every ``interval`` iterations; with ``validates``, every second one."""
    cfg = epochs_cfg(folder, 1, length, workers, validates=validates, model=model, **options)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=2)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', _scope_='mmengine')
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=interval)
    return cfg


def thinned_cfg(folder, ranks=1):
    """Distillers that do not act in every iteration, with gradients that are accumulated over two; global batches of 4."""
    l2 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'])
    student = classifier()
    student['backbone'].update(norm_eval=True)  # batch statistics differ between one process and two
    model = distilled(student, even=dict(l2, every=2), odd=dict(l2, every=2, begin=1), rare=dict(l2, every=3),
                      late=dict(l2, begin=2))
    cfg = run_cfg(model, folder, length=20)
    cfg.train_dataloader.update(batch_size=4 // ranks, sampler=dict(type='DefaultSampler', shuffle=False))
    cfg.optim_wrapper.update(accumulative_counts=2, optimizer=dict(type='SGD', lr=.05, momentum=.9, weight_decay=.1))
    return cfg


def with_drops(runner):
    """Adds the hook that draws in every iteration."""
    runner.register_hook(Dropping())


def interrupted(make, folder, epoch=None, iteration=None, before=with_drops):
    """A whole run, and one that ends after an epoch or iteration and is resumed from there.

    Args:
        make: makes the config of a run in a folder, and of one that is resumed with ``resume=True``.
        folder: where they run.
        epoch, iteration: when the second one is interrupted.
        before: what is done with each runner before it trains.

    Returns:
        The two runners, and the losses of the whole run from there on and of the resumed one.
    """
    whole, losses = run(make(folder / 'whole'), before)

    def stop(runner):
        before(runner)
        runner.register_hook(Stop(epoch, iteration))

    _, first = run(make(folder / 'half'), stop)
    resumed, later = run(make(folder / 'half', resume=True), before)
    for runner in (whole, resumed):
        let_workers_go(runner)
    return whole, resumed, losses[len(first):], later


def let_workers_go(runner):
    """Ends loader workers that live on, rather than when the runner is collected."""
    runner.train_loop.dataloader_iterator = None
    for loop in (runner.train_loop, runner.val_loop):
        if loop is not None:
            loop.dataloader._iterator = None


def everything(runner):
    """What a run comes to: weights, adapters, optimiser, averages, random numbers."""
    model = getattr(runner.model, 'module', runner.model)
    state = dict(model.state_dict())
    state.update({f'distillation.{name}': value for name, value in model.distillation.state_dict().items()})
    for number, buffers in runner.optim_wrapper.state_dict()['state'].items():
        state.update({f'optimizer.{number}.{name}': value for name, value in buffers.items()})
    for hook in runner.hooks:
        if type(hook).__name__ == 'EMAHook':
            state.update({f'average.{name}': value for name, value in hook.ema_model.state_dict().items()})
    state['generators'] = runner.generators_at_the_end
    return {name: torch.as_tensor(value).clone() for name, value in state.items() if value is not None}


def differences(whole, resumed):
    """The names of what is not the same bit for bit in two runs, and what only one of them has."""
    one, other = everything(whole), everything(resumed)
    return sorted({*one} ^ {*other}) + [name for name in one if name in other and not torch.equal(one[name], other[name])]
