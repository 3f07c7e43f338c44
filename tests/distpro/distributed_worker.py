"""Run by torchrun from test_distributed.py: a short search, and a replay with pruned pathways, through the Runner."""
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)
torch.distributed.init_process_group('gloo')  # before the Runner, whose launcher would look for a GPU

from distpro_runs import LEVELS, distpro, pool, pool_cfg, search_on_global_batches, spread  # noqa: E402
from zoo import classifier, distilled, run, run_cfg  # noqa: E402

import mmkd_plugin  # noqa: E402, F401
from mmkd_plugin.distpro import Process  # noqa: E402
from mmkd_plugin.distpro.artefact import write_process  # noqa: E402
from mmkd_plugin.distpro.pathways import make_pathways  # noqa: E402

out = Path(sys.argv[1])
searched, _ = run(search_on_global_batches(out / 'search', get_world_size()))
importance = searched.model.module.distillation.distpro.importance.value
MessageHub._instance_dict.clear()
# Pathway 0 is idle in iteration 1 of 3: DDP wants a gradient for its transform.
pathways = make_pathways(LEVELS, LEVELS, 'lower_to_higher', ['conv1'])
file = out / f'pruned{get_rank()}.json'
write_process(file, Process(pathways, 'softmax', 1., .5, torch.tensor([[1., 1, 1], [0, 1, 1], [1, 1, 1]]), 3))
replay = distilled(classifier(), distpro=distpro('process', process=str(file)))
replayed, _ = run(spread(run_cfg(replay, out / 'replay', length=12), get_world_size()))
# A pool: its search, and a replay in which a member of it is idle in the middle.
MessageHub._instance_dict.clear()
members = ['mgd.loss_layer3', 'mgd.loss_layer4', 'kd', 'l2']
pooled, _ = run(spread(pool_cfg(out / 'pool', pool(members=members, scales='auto'), length=12), get_world_size()))
found = pooled.model.module.distillation.distpro.importance.value
content = Process(pooled.model.module.distillation.distpro.members, 'softmax', 1., .5, torch.tensor(
    [[1.] * 7, [1., 1, 1, 1, 0, 0, 0], [1.] * 7]), 3)
write_process(file, content)
MessageHub._instance_dict.clear()
idle, _ = run(spread(pool_cfg(out / 'idle', pool('process', members, process=str(file)), length=12), get_world_size()))
torch.save(dict(importance=importance, pool=found,
                idle={name: value.detach() for name, value in idle.model.module.named_parameters()},
                weights={name: value.detach() for name, value in replayed.model.module.named_parameters()}),
           out / f'rank{get_rank()}.pt')
