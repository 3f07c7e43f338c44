"""Small DistPro configs and runs that several tests share."""
import json
from copy import deepcopy

import torch
from zoo import STUDENTS, batch, distilled, loader, run_cfg

from mmkd_plugin.distiller import Batch
from mmkd_plugin.search.stream import BatchStream

LEVELS = ['backbone.layer1@preact', 'backbone.layer2@preact']
NAMES = ['layer1-layer1', 'layer1-layer2', 'layer2-layer2']


def distpro(mode='search', **options):
    return dict(type='mmkd.DistProDistiller', **{'levels': LEVELS, 'mode': mode, 'transforms': 'conv1', **options})


def search_hook(scope, **options):
    return dict(type='mmkd.ProcessSearchHook', **{'dataloader': loader(scope, 5), **options})


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
