"""Small searches through the Runner that several tests share."""
import torch
from zoo import classifier, dfa, distilled, loader, run, run_cfg

TWO_STAGES = ('backbone.layer3', 'backbone.layer4')


def hook(scope='mmpretrain', **options):
    return dict(type='mmkd.AggregationSearchHook', dataloader=loader(scope, 6), **options)


def searching(student=classifier, stages=TWO_STAGES, **options):
    return distilled(student(), student(16, depth=34), dfa=dfa('search', stages, **options))


def search_run(folder, model=None, hooks=None, epochs=2, before=None, length=4, lr=.01, wrapper='OptimWrapper'):
    model = model or searching()
    cfg = run_cfg(model, folder, epochs, hooks or [hook(model['student']['_scope_'])], length)
    cfg.optim_wrapper.type = wrapper
    cfg.optim_wrapper.optimizer.lr = lr
    return run(cfg, before)


def equal(one, other):
    """Whether two dicts of tensors are the same bit for bit."""
    return all(torch.equal(value, other[name]) for name, value in one.items())
