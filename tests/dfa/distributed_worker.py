"""Run from test_distributed.py, by torchrun or by itself: a short search through the Runner."""
import json
import os
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)
if 'RANK' in os.environ:
    torch.distributed.init_process_group('gloo')  # before the Runner, whose launcher would look for a GPU

from zoo import classifier, dfa, distilled, loader, run, run_cfg  # noqa: E402

from mmkd_plugin.model import unwrap  # noqa: E402


def frozen_norms(cfg):
    # Batch statistics differ between one process and two.
    cfg['backbone'].update(norm_eval=True)
    return cfg


out = Path(sys.argv[1])
gamma_st, gamma_ts = (gamma if gamma == 'auto' else float(gamma) for gamma in sys.argv[2:] or (1, 1))
model = distilled(frozen_norms(classifier()), classifier(16, depth=34),
                  dfa=dfa('search', ('backbone.layer3', 'backbone.layer4'), connector_norm=None,
                          gamma_st=gamma_st, gamma_ts=gamma_ts))
validation = loader('mmpretrain', 8, 4 // get_world_size(), shuffle=False)
hook = dict(type='mmkd.AggregationSearchHook', dataloader=validation, optimizer=dict(type='SGD', lr=1.0))
cfg = run_cfg(model, out / 'run', length=16, hooks=[hook])
cfg.experiment_name = 'search'
if 'RANK' in os.environ:
    cfg.update(launcher='pytorch', model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False))
cfg.train_dataloader.update(batch_size=4 // get_world_size(), sampler=dict(type='DefaultSampler', shuffle=False))
cfg.optim_wrapper.optimizer.weight_decay = .1
runner, losses = run(cfg)
student = unwrap(runner.model)
dfa_ = student.distillation.dfa
torch.save(dict(betas=[group.beta for group in dfa_.groups], gamma_st=dfa_.search.gammas.st, losses=json.dumps(losses),
                weights={name: value.detach() for name, value in student.named_parameters()}),
           out / f'rank{get_rank()}.pt')
