"""Small DistPro configs and runs that several tests share."""
import json
from copy import deepcopy

import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from zoo import STUDENTS, Stop, batch, classifier, dfa, distilled, loader, mgd, run, run_cfg, update_hook

from mmkd_plugin.distiller import Batch
from mmkd_plugin.search.stream import BatchStream

LEVELS = ['backbone.layer1@preact', 'backbone.layer2@preact']
NAMES = ['layer1-layer1', 'layer1-layer2', 'layer2-layer2']


def distpro(mode='search', **options):
    return dict(type='mmkd.DistProDistiller', **{'levels': LEVELS, 'mode': mode, 'transforms': 'conv1', **options})


def search_hook(scope, **options):
    held_out = {} if options.get('validation') == 'next_batch' else dict(dataloader=loader(scope, 5))
    return dict(type='mmkd.ProcessSearchHook', **{'lr': .05, **held_out, **options})


def search_cfg(work_dir, scope='mmpretrain', student=None, hook=None, distiller=None, teacher=None, **options):
    """A short search: 4 iterations an epoch."""
    model = distilled(deepcopy(student or STUDENTS[scope]()), teacher, distpro=distiller or distpro())
    cfg = run_cfg(model, work_dir, hooks=[search_hook(scope, **(hook or {}))], **options)
    cfg.experiment_name = f'search in {work_dir}'  # mmengine keeps loggers by name: each run has its own log
    return cfg


def hook_of(runner):
    return next(hook for hook in runner.hooks if type(hook).__name__ == 'ProcessSearchHook')


def validation_batches(runner):
    """Batches of the loader that the run's search had."""
    return BatchStream(hook_of(runner).options.dataloader, 0, 'test')


def search_on_global_batches(folder, ranks):
    """A search with the same 4 images in each global batch, however many ranks share them."""
    student = STUDENTS['mmpretrain']()
    student['backbone'].update(norm_eval=True)  # batch statistics differ between one process and two
    val = {**loader('mmpretrain', 16, 4 // ranks), 'sampler': dict(type='DefaultSampler', shuffle=False)}
    # Token transforms: their norms do not mix the images of a batch.
    cfg = search_cfg(folder, student=student, length=12, hook=dict(dataloader=val), distiller=distpro(transforms='token1'))
    return spread(cfg, ranks)


def spread(cfg, ranks):
    """Global batches of 4 images, in order, over so many ranks."""
    cfg.train_dataloader.update(batch_size=4 // ranks, sampler=dict(type='DefaultSampler', shuffle=False))
    if ranks > 1:
        cfg.update(launcher='pytorch', model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False))
    return cfg


PADDED = (64, 128)
# The width of 40 ends within a cell of stride 16 whose centre lies outside, while one of stride 8 there lies inside.
UNEVEN = ((64, 40), (48, 88))


def padded(valid, size=PADDED):
    """Two images of different sizes in one batch of a detector, padded right and below."""
    samples = batch('mmdet')['data_samples']
    for sample, shape in zip(samples, valid):
        sample.set_metainfo(dict(img_shape=shape, batch_input_shape=size, pad_shape=size))
    images = torch.zeros(2, 3, *size)
    for number, (height, width) in enumerate(valid):
        images[number, :, :height, :width] = torch.randn(3, height, width)
    return Batch(images, samples, 0)


def scalars(folder):
    """What the visualiser of the run in a folder has got, record by record."""
    return [json.loads(line) for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()]


class Counts(Hook):
    """Counts what one run does with the real networks, iteration by iteration."""
    priority = 'LOWEST'

    def __init__(self):
        self.counts, self.rows = dict.fromkeys(('teacher', 'student', 'backward', 'head', 'transform'), 0), []

    def before_train(self, runner):
        model = runner.model
        distillation = model.distillation
        watched = dict(teacher=distillation.teacher.model.backbone, student=model.backbone,
                       head=getattr(model, 'decode_head', None) or getattr(model, 'bbox_head', None) or model.head,
                       transform=distillation.distpro.transforms[0])
        for name, module in watched.items():
            module.register_forward_pre_hook(lambda *_, name=name: self.add(name))
        watched['student'].layer2.register_full_backward_hook(lambda *_: self.add('backward'))

    def add(self, name):
        self.counts[name] += 1

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.rows.append(self.counts)
        self.counts = dict.fromkeys(self.counts, 0)


def everything(runner):
    """All that training is made of, but the importance."""
    state = {f'model.{name}': value for name, value in runner.model.state_dict().items()}
    state.update({f'adapter.{name}': value for name, value in runner.model.distillation.state_dict().items()
                  if not name.endswith('importance.value')})
    for number, buffers in runner.optim_wrapper.optimizer.state_dict()['state'].items():
        state.update({f'optimiser.{number}.{name}': value for name, value in buffers.items()})
    return {name: value.clone() for name, value in state.items()}


def interrupted(make_cfg, folder, iteration):
    """Runs a config whole and in two parts; returns both runners and the losses of both."""
    whole, losses = run(make_cfg(folder / 'whole'))
    MessageHub._instance_dict.clear()
    _, first = run(make_cfg(folder / 'half'), before=lambda runner: runner.register_hook(Stop(iteration=iteration)))
    MessageHub._instance_dict.clear()
    resumed, second = run(make_cfg(folder / 'half', resume=True))
    assert len(first) < len(losses)
    return whole, resumed, losses, first + second


def same_weights(one, other):
    states = [{**model.state_dict(), **model.distillation.state_dict()} for model in (one.model, other.model)]
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def endless(cfg):
    """The same run, counted in iterations."""
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', _scope_='mmengine')
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
    return cfg


OTHERS = dict(
    mgd=mgd(), kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], temperature=4.),
    dist=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss='dist'),
    l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4']),
    dfa=dfa('distill', ['backbone.layer3'], aggregation='average'))
"""Distillers of the classifier; a process can weigh their losses."""


def pool(mode='search', members=('mgd.loss_layer3', 'mgd.loss_layer4', 'kd', 'dist', 'l2', 'dfa'), others=None, **options):
    """Distillers: a process with members beside its levels, and the distillers whose losses those are."""
    names = dict.fromkeys(member.partition('.')[0] for member in members)
    return dict({name: deepcopy((others or OTHERS)[name]) for name in names},
                distpro=distpro(mode, members=list(members), **{'scales': None, **options}))


def pool_cfg(folder, distillers=None, hook=None, **options):
    """A short run of a pool: a search, unless the process has another mode."""
    distillers = distillers or pool()
    hooks = [update_hook('mmpretrain')] if 'mgd' in distillers else []
    if distillers['distpro']['mode'] == 'search':
        hooks.append(search_hook('mmpretrain', **(hook or {})))
    cfg = run_cfg(distilled(classifier(), **distillers), folder, hooks=hooks, **options)
    cfg.experiment_name = f'pool in {folder}'
    return cfg
