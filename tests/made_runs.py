"""Work dirs as trainings leave them, made in a moment: config, log, numbers, checkpoint."""
import json

import torch

START = '20260101_000000'
STUDENT = dict(type='EncoderDecoder', backbone=dict(type='ResNet', depth=18))
DISTILLED = dict(type='mmkd.DistilledModel', student=STUDENT, teacher=dict(config='teacher.py', checkpoint='none.pth'),
                 distillers=dict(mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=['backbone.layer4'], loss_scale='auto'),
                                 kd=dict(type='mmkd.LogitsDistiller', pairs=['decode_head'], loss_scale='auto')))
ENVIRONMENT = ['', '-' * 60, 'System environment:', '    Python: 3.11.2', '    PyTorch: 2.11.0', '', 'Runtime environment:',
               '    seed: 0', '-' * 60]


def line(text, level='INFO'):
    """A line of a log."""
    return f'2026/01/01 00:00:00 - mmengine - {level} - {text}'


def train_line(step, **values):
    """What is logged of an iteration."""
    return dict(dict(lr=.01, data_time=.01, loss=2., time=.1, iter=step, memory=0, step=step), **values)


def numbers(length=100, every=10, metrics=(40., 50., 60., 61.), metric='mIoU', **others):
    """The lines of a ``scalars.json``: the losses of a distilled run, and validations spread over it."""
    last = 0
    lines = []
    for step in range(every, length + 1, every):
        losses = {'decode.loss_ce': 100 / step, 'aux.loss_ce': 40 / step, 'mgd.loss_layer4': 50 / step, 'kd.loss': 30 / step}
        gradients = {'mgd.gradient_ratio': 1.1, 'mgd.gradient_cosine': .1, 'kd.gradient_ratio': .9, 'kd.gradient_cosine': .2}
        lines.append(train_line(step, **losses, **gradients, **others))
        if metrics and step * len(metrics) // length > last:
            last = step * len(metrics) // length
            lines.append({metric: metrics[last - 1], 'time': .1, 'step': step})
    return lines


def make_run(folder, model=DISTILLED, lines=None, log=(), length=100, seed=0, start=START, checkpoint=True, **config):
    """Makes a work dir.

    Args:
        folder: where.
        model: the config's; None for a work dir without a config.
        lines: of ``scalars.json``; None for no such file.
        log: lines that the log ends with.
        length: how many iterations the config asks for, and the checkpoint has.
        seed: the checkpoint's, and the config's.
        start: when it was started.
        checkpoint: whether there is one.
        config: further keys of the config.
    """
    (folder / start / 'vis_data').mkdir(parents=True)
    if model is not None:
        values = dict(model=model, train_cfg=dict(max_iters=length), randomness=dict(seed=seed), **config)
        (folder / 'config.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in values.items()))
    if lines is not None:
        (folder / start / 'vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')
    (folder / start / f'{start}.log').write_text('\n'.join([line('\n'.join(ENVIRONMENT)), *log]) + '\n')
    if checkpoint:
        names = model.get('distillers', {}) if model else {}
        section = dict(mmkd=dict(distillers={name: {} for name in names}, teacher=dict(sha256='ab'))) if names else {}
        torch.save(dict(meta=dict(iter=length, epoch=0, seed=seed), state_dict={}, **section), folder / f'iter_{length}.pth')
    return folder
