"""Run by torchrun from test_distributed.py: a short distilled run through the Runner."""
import json
import os
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)
torch.distributed.init_process_group('gloo')  # before the Runner, whose launcher would look for a GPU

from resume_runs import thinned_cfg  # noqa: E402
from zoo import classifier, distilled, loader, mgd, run, run_cfg, update_hook  # noqa: E402

import mmkd_plugin  # noqa: E402, F401


def frozen_norms(cfg):
    # Batch statistics differ between one process and two.
    cfg['backbone'].update(norm_eval=True)
    return cfg


def hook_of(runner):
    return next(hook for hook in runner.hooks if type(hook).__name__ == 'MatchingUpdateHook')


out = Path(sys.argv[1])
# Few channels: with many, random networks have assignments of equal cost up to rounding.
model = distilled(frozen_norms(classifier()), mgd=mgd('backbone.layer1@preact', norm='GN', reduction='sum', divisor=1e4),
                  l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3']),
                  late=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], begin=2))  # idle at first, DDP waits
hook = update_hook('mmpretrain', num_images=12, dataloader=loader('mmpretrain', 12))
cfg = run_cfg(model, out / f'run{get_rank()}', length=12, hooks=[hook])
cfg.update(launcher='pytorch', model_wrapper_cfg=dict(
    type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False), experiment_name='distributed')
cfg.train_dataloader.update(batch_size=4 // get_world_size(), sampler=dict(type='DefaultSampler', shuffle=False))
runner, losses = run(cfg)
costs = hook_of(runner).update(runner)
thinned = thinned_cfg(out / f'thinned{get_rank()}', get_world_size())
thinned.update(launcher='pytorch', model_wrapper_cfg=cfg.model_wrapper_cfg)
state = dict(thinned={name: value.detach() for name, value in run(thinned)[0].model.module.named_parameters()},
             costs=json.dumps(costs), assignment=runner.model.module.distillation.mgd.stages[0].assignment,
             weights={name: value.detach() for name, value in runner.model.module.named_parameters()},
             losses=json.dumps(losses))
torch.save(state, out / f'rank{get_rank()}.pt')
assert runner.model.module.distillation is not None
assert os.environ['WORLD_SIZE'] == str(get_world_size())
